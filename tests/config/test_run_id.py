"""Run IDs: they depend on the settings that affect the result, not on where a run is executed."""

from __future__ import annotations

import pytest

from distcond.config.overrides import apply_overrides, resolve, to_settings
from distcond.config.run_id import run_id

CONFIG = resolve("float_digits", {})

#: A value other than the default for every setting that must not change the name.
ELSEWHERE = {
    "sinks": ["wandb"],
    "init_from": "/weights.pth",  # its content is hashed, see tests/init_from/test_init_runs.py
    "data.root": "/other",
    "data.extra": "/more.npz",  # its content is hashed, see tests/data/test_extra.py
    "data.loader": "memory",
    "data.cache_dir": "/tmp/cache",
    "data.threads": 3,
    "launch": "local",
    "launch.workers": 5,
    "launch.min_workers": 1,
    "launch.cpus_per_worker": 2,
    "launch.device": "cpu",
    "launch.max_failures": 9,
    "launch.timeout": 5.0,
    "eval.sentinel": "off",
    "launch.grace": 3.0,
    "save_every": 7,
    "save_steps": 5,
    "save_minutes": 1.0,
    "run_root": "/elsewhere",
    "fresh": True,
}


def other(path: str, value: object) -> object:
    """Another valid value of a setting."""
    if isinstance(value, bool):
        return not value
    special = {
        "recipe": "pgd_at_digits", "method.name": "pgd_at", "model.name": "resnet20", "data.name": "cifar10",
        "sampler.name": "fixed", "attack.norm": "L2", "eval.attack.norm": "L2", "optim.schedule": "constant",
        "precision.train": "bf16", "precision.layout": "contiguous", "data.mean": [0.5, 0.5, 0.5],
        "data.std": [0.25, 0.25, 0.25], "method.scale": "linear", "eval.dial": "outputs", "eval.dial_even": "ra",
        "data.class_order": "lexicographic", "eval.attack_name": "pgd-last",
            "eval.select": "ra", "attack_mode": "train", "method.alpha_by": "channel", "method.loss": "authors",
        "precision.compile": "attack", "precision.validation": "bf16",
    }  # fmt: skip
    if path in special:
        return special[path]
    if isinstance(value, list):
        return [*value, value[0]]
    assert isinstance(value, int | float), path
    return value + 1 if isinstance(value, int) else (value + 0.5 if value <= 0.5 else value - 0.25)


def test_run_id_is_stable() -> None:
    # A new setting at its default must not change this ID. Neither may the process: str hashes differ in each run of
    # this test.
    first = resolve("float_digits", {"eval.dial": "switch", "attack.epsilon": 0.2, "eval.attack.epsilon": 0.2})
    assert run_id(first, "0123456789abcdef") == "float-digits-small_cnn-s0-be504053"


def test_settings_that_affect_results_change_the_id() -> None:
    settings = to_settings(CONFIG)
    missing = set(ELSEWHERE) - set(settings) - {"launch"}
    assert not missing
    base = run_id(CONFIG, "f")
    for path, value in settings.items():
        if path in ELSEWHERE or path == "launch.name":
            continue
        changed = run_id(apply_overrides(CONFIG, {path: other(path, value)}), "f")
        assert (changed == base) == (path == "recipe"), path


@pytest.mark.parametrize(("path", "value"), ELSEWHERE.items())
def test_other_settings_do_not_change_the_id(path: str, value: object) -> None:
    config = resolve("float_digits", {path: value})
    assert config != CONFIG
    assert run_id(config, "f") == run_id(CONFIG, "f")


def test_other_images_change_the_id() -> None:
    assert run_id(CONFIG, "a") != run_id(CONFIG, "b")


def test_same_settings_without_recipe_are_one_run() -> None:
    by_hand = resolve("pgd_at_digits", {"method": "float", "eval.dial": "weights"})
    assert run_id(by_hand, "f") == run_id(CONFIG, "f")


def test_private_methods_are_named_by_module() -> None:
    config = resolve("float_digits", {"method": "distcond.methods.pgd_at:METHOD"})
    assert run_id(config, "f").startswith("pgd_at-digits-small_cnn-s0-")
