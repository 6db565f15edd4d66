"""What a run is called: by what decides its result, not by where it runs."""

from __future__ import annotations

import pytest

from distcond.config.overrides import apply_overrides, resolve, to_settings
from distcond.config.run_id import run_id

CONFIG = resolve("float_digits", {})

#: A value other than the default for every setting that must not change the name.
ELSEWHERE = {
    "sinks": ["wandb"],
    "init_from": "/weights.pth",  # its content decides, see tests/engine/test_init_runs.py
    "data.root": "/other",
    "data.extra": "/more.npz",  # its content decides, see tests/data/test_extra.py
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
    }  # fmt: skip
    if path in special:
        return special[path]
    if isinstance(value, list):
        return [*value, value[0]]
    assert isinstance(value, int | float), path
    return value + 1 if isinstance(value, int) else (value + 0.5 if value <= 0.5 else value - 0.25)


def test_run_id_is_readable_and_outlives_new_settings() -> None:
    # A new setting at its default changes no run, so it must not change this. Nor does it depend on the process: each
    # run of this test is one with other hashes of words.
    first = resolve("float_digits", {"eval.dial": "switch", "attack.epsilon": 0.2, "eval.attack.epsilon": 0.2})
    assert run_id(first, "0123456789abcdef") == "float-digits-small_cnn-s0-be504053"


def test_only_what_decides_results_changes_the_run_id() -> None:
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
def test_where_it_runs_does_not_change_the_name(path: str, value: object) -> None:
    config = resolve("float_digits", {path: value})
    assert config != CONFIG
    assert run_id(config, "f") == run_id(CONFIG, "f")


def test_other_images_give_another_name() -> None:
    assert run_id(CONFIG, "a") != run_id(CONFIG, "b")


def test_a_recipe_written_by_hand_is_one_run() -> None:
    by_hand = resolve("pgd_at_digits", {"method": "float", "eval.dial": "weights"})
    assert run_id(by_hand, "f") == run_id(CONFIG, "f")


def test_private_work_is_called_by_its_module() -> None:
    config = resolve("float_digits", {"method": "distcond.methods.pgd_at:METHOD"})
    assert run_id(config, "f").startswith("pgd_at-digits-small_cnn-s0-")
