"""Overrides: parsing of values, refusals, and the defaults that `method=` sets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from distcond.config.overrides import apply_overrides, from_settings, resolve, settings_of, to_settings
from distcond.config.run_id import run_id
from distcond.config.schema import Config
from distcond.errors import ConfigError
from distcond.methods.float import FloatOptions
from distcond.registry import lookup, table
from distcond.samplers.distributions import FixedOptions, TwoPointOptions


def value_at(config: Config, path: str) -> Any:
    return {name: value for name, value, _ in settings_of(config)}[path]


@pytest.mark.parametrize(
    ("path", "given", "wanted"),
    [
        ("epochs", "7", 7),
        ("epochs", 7.0, 7),
        ("attack.epsilon", "8/255", 8 / 255),
        ("attack.epsilon", " 8 / 255 ", 8 / 255),
        ("attack.epsilon", 0, 0.0),
        ("optim.weight_decay", "5e-4", 5e-4),
        ("eval.lam_grid", "0,0.25,1/2", (0.0, 0.25, 0.5)),
        ("eval.lam_grid", "(0, 1)", (0.0, 1.0)),
        ("eval.lam_grid", [0, 1], (0.0, 1.0)),
        ("eval.lam_grid", "0.5", (0.5,)),
        ("eval.lam_grid", 0.5, (0.5,)),
        ("model.widths", "4,8", (4, 8)),
        ("optim.no_decay", "alpha,bias", ("alpha", "bias")),
        ("optim.no_decay", "", ()),
        ("attack.norm", "L2", "L2"),
        ("precision.train", "float32", "float32"),
        ("shared_statistics", "true", True),
        ("shared_statistics", "YES", True),
        ("shared_statistics", "off", False),
        ("attack.random_start", False, False),
        ("run_root", "a/b=c", "a/b=c"),
        ("launch", "local", "local"),
        ("data.name", "cifar10", "cifar10"),
    ],
)
def test_values_are_parsed_by_type(path: str, given: Any, wanted: Any) -> None:
    found = value_at(resolve("float_digits", {path: given}), "launch.name" if path == "launch" else path)
    assert found == wanted
    assert type(found) is type(wanted)


@pytest.mark.parametrize(
    ("path", "given", "words"),
    [
        ("epochs", "2.5", "epochs=2.5: "),
        ("epochs", True, "epochs=True: "),
        ("epochs", "many", "epochs=many: "),
        ("optim.lr", "fast", "optim.lr=fast: "),
        ("optim.lr", "nan", "optim.lr=nan: "),
        ("optim.lr", "1/0", "optim.lr=1/0: "),
        ("optim.lr", "inf", "optim.lr=inf: "),
        ("shared_statistics", "maybe", "shared_statistics=maybe: "),
        ("eval.lam_grid", "0,x", "eval.lam_grid=x: expected a number"),
        ("run_root", 3, "run_root=3: "),
        ("attack.norm", "l2", "unknown value for attack.norm 'l2': valid: Linf, L2"),
        ("precision.train", "float23", "did you mean float32? valid: auto, bf16, float32"),
        ("launch", "slurm", "unknown value for launch 'slurm': valid: ray, local"),
        ("attack.epsilon", "-1/255", "attack.epsilon=-0.00392157: "),
        ("optim.lr", "0", "optim.lr=0: "),
        ("eval.lam_grid", "0,1.5", "eval.lam_grid=1.5: must be at most 1"),
        ("sampler.low", "-0.1", "sampler.low=-0.1: "),
        ("sampler.high", "1.01", "sampler.high=1.01: "),
        ("batch_size", "0", "batch_size=0: "),
        ("model.widths", "8,0", "model.widths=0: must be at least 1"),
        ("eval.lam_grid", "", "eval.lam_grid: empty; give at least one number"),
        ("method", "flaot", "unknown method 'flaot': did you mean float? valid: float, "),
        ("model", "resnet_18", "did you mean resnet18? valid: "),
        ("data", "cifr10", "did you mean cifar10? valid: "),
        ("sampler", "two-point", "did you mean two_point? valid: "),
        ("batchsize", "4", "unknown setting 'batchsize': did you mean batch_size? valid: recipe, method, "),
        ("attack.epsilom", "4", "unknown setting 'attack.epsilom': did you mean attack.epsilon? valid: attack.norm, "),
        (
            "eval.attack.numsteps",
            "4",
            "did you mean eval.attack.num_steps? valid: eval.attack.norm, eval.attack.epsilon",
        ),
        ("method.alhpa", "4", "did you mean method.alpha? valid: method.name, method.alpha, method.threshold"),
        ("attak.epsilon", "4", "unknown setting 'attak': did you mean attack? valid: recipe, method, "),
        ("eval.attak.epsilon", "4", "unknown setting 'eval.attak': did you mean eval.attack? valid: eval.lam_grid, "),
        ("epsilon", "4", "did you mean attack.epsilon or eval.attack.epsilon? valid: recipe, method, "),
        ("alpha", "4", "did you mean method.alpha? valid: recipe, method, "),
        ("eval.epsilon", "4", "did you mean eval.attack.epsilon? valid: eval.lam_grid, "),
        ("attack", "pgd", "attack is a group; set one of attack.norm, attack.epsilon, "),
        ("epochs.x", "4", "epochs.x: epochs is a single value without sub-settings"),
    ],
)
def test_invalid_settings_are_refused_with_choices(path: str, given: Any, words: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        resolve("float_digits", {path: given})
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_unknown_recipes_are_refused_with_nearest_name() -> None:
    with pytest.raises(ConfigError, match=r"'float_digit': .*float_digits"):
        resolve("float_digit", {})


def test_method_sets_its_options_and_sampler() -> None:
    config = resolve("float_digits", {"method.alpha": 0.5, "sampler.share": 0.25})
    assert config.method == FloatOptions(name="float", alpha=0.5)
    assert config.sampler == TwoPointOptions(name="two_point", share=0.25)
    other = apply_overrides(config, {"method": "pgd_at"})
    assert not hasattr(other.method, "alpha")
    assert other.sampler == FixedOptions(name="fixed", lam=1.0)
    assert apply_overrides(other, {"method": "float"}).method == FloatOptions(name="float")


def test_explicit_sampler_is_kept_in_any_order() -> None:
    for overrides in ({"method": "float", "sampler": "fixed"}, {"sampler.name": "fixed", "method.name": "float"}):
        assert resolve("float_digits", overrides).sampler == FixedOptions(name="fixed")


@pytest.mark.parametrize("method", ["oat", "oats"])
def test_method_sets_its_grid_unless_explicit(method: str) -> None:
    own = lookup("method", method).default_grid
    assert own == (0.0, 0.1, 0.2, 0.3, 0.4, 1.0)
    for recipe in ("float_digits", "float_cifar10_resnet34"):
        config = resolve(recipe, {"method": method})
        assert config.eval.lam_grid == own
        assert from_settings(to_settings(config)) == config
        explicit = resolve(recipe, {"eval.lam_grid": own, "eval.dial": config.eval.dial, "method": method})
        assert run_id(config, "f") == run_id(explicit, "f")
        assert resolve(recipe, {"method": method, "eval.lam_grid": "0,1"}).eval.lam_grid == (0.0, 1.0)
        assert apply_overrides(config, {"eval.every": 3}).eval.lam_grid == own
        assert apply_overrides(config, {"method": "float"}).eval.lam_grid == (0.0, 0.2, 0.7, 1.0)
    narrow = from_settings(to_settings(resolve("float_digits", {"method": method, "eval.lam_grid": "0,0.4"})))
    assert narrow.eval.lam_grid == (0.0, 0.4)


def test_options_may_precede_their_method() -> None:
    config = resolve(
        "pgd_at_digits", {"method.alpha": "0.75", "model.widths": "4", "method": "float", "model": "small_cnn"}
    )
    assert config.method == FloatOptions(name="float", alpha=0.75)
    assert value_at(config, "model.widths") == (4,)


@pytest.mark.parametrize("recipe", table("recipe"))
def test_settings_round_trip(recipe: str) -> None:
    config = resolve(recipe, {"attack.epsilon": "3/255", "fresh": "true"})
    assert from_settings(to_settings(config)) == config


def test_later_versions_settings_are_refused_by_name() -> None:
    settings = to_settings(resolve("float_digits", {})) | {"optim.sharpness": 1.0}
    with pytest.raises(ConfigError, match=r"'optim.sharpness'"):
        from_settings(settings)


def test_every_setting_has_a_help_line() -> None:
    assert [
        path for recipe in table("recipe") for path, _, help_line in settings_of(resolve(recipe, {})) if not help_line
    ] == []


def test_help_lists_enumerated_values() -> None:
    lines = {path: line for path, _, line in settings_of(resolve("oat_digits", {}))}
    assert lines["optim.schedule"] == "learning rate over the run; one of cosine, multistep, onecycle, constant"
    assert lines["launch.name"] == "ray = Ray Train; local = this process, or every torchrun process"
    assert lines["eval.sentinel"].endswith("; one of off, final, every")
    assert lines["method.encoding"].endswith("; one of none, onehot, dct, rand")


PRIVATE = """
from dataclasses import dataclass, replace
from distcond.config.schema import Options
from distcond.config.fields import setting
from distcond.methods.pgd_at import METHOD as PGD_AT

@dataclass(frozen=True, kw_only=True)
class MyOptions(Options):
    strength: float = setting(2.0, "how strong", ge=0)

METHOD = replace(PGD_AT, name="mine", options=MyOptions())
NOT_A_METHOD = 3
"""


def test_private_method_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "private_distcond_method.py").write_text(PRIVATE)
    monkeypatch.syspath_prepend(tmp_path)
    name = "private_distcond_method:METHOD"
    config = resolve("float_digits", {"method": name, "method.strength": "1/2"})
    assert (config.method.name, value_at(config, "method.strength")) == (name, 0.5)
    assert config.sampler == FixedOptions(name="fixed")
    assert from_settings(to_settings(config)) == config
    with pytest.raises(ConfigError, match=r"private_distcond_method:NOT_A_METHOD .*int.*Method"):
        resolve("float_digits", {"method": "private_distcond_method:NOT_A_METHOD"})


def test_overrides_beat_recipes_and_recipes_beat_defaults() -> None:
    recipe = lookup("recipe", "float_digits").settings
    assert resolve("float_digits", {}).epochs == recipe["epochs"]
    assert resolve("float_digits", {"epochs": 2}).epochs == 2
    assert resolve("float_digits", {}).seed == Config().seed


def test_recipe_is_not_a_setting() -> None:
    with pytest.raises(ConfigError, match="recipe=pgd_at_digits: "):
        resolve("float_digits", {"recipe": "pgd_at_digits"})


@pytest.mark.parametrize(
    ("settings", "dial"),
    [
        ({}, "weights"),
        ({"method": "oat"}, "weights"),
        ({"method": "trades"}, "switch"),
        ({"method": "pgd_at", "eval.dial": "weights"}, "weights"),  # refused when the run starts
        ({"eval.lam_grid": "0,1"}, "switch"),
        ({"eval.lam_grid": "0,1", "eval.dial": "outputs"}, "outputs"),  # so is this one
    ],
)
def test_dial_fits_method_and_grid(settings: dict[str, Any], dial: str) -> None:
    assert resolve("float_digits", settings).eval.dial == dial
    assert apply_overrides(resolve("float_digits", {}), settings).eval.dial == dial


@pytest.mark.parametrize("recipe", ["trades_digits", "float_cifar10_resnet20"])
def test_named_method_keeps_a_recipes_switch(recipe: str) -> None:
    assert resolve(recipe, {"method": "float"}).eval.dial == "switch"
