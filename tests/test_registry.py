from __future__ import annotations

import pytest

from distcond.errors import ConfigError
from distcond.registry import KINDS, lookup, table


@pytest.mark.parametrize("kind", KINDS)
def test_every_value_is_found_by_name(kind: str) -> None:
    values = table(kind)
    assert values
    assert list(values) == sorted(values)
    for name, value in values.items():
        assert value.name == name
        assert value.summary
        assert "\n" not in value.summary
        assert lookup(kind, name) is value


def test_values_of_all_files_are_found() -> None:
    assert {"float", "pgd_at"} <= set(table("method"))
    assert {"resnet18", "resnet34", "resnet20", "small_cnn"} <= set(table("model"))
    assert {"fixed", "two_point"} <= set(table("sampler"))


@pytest.mark.parametrize("kind", ["method", "model", "sampler"])
def test_options_have_the_name_of_their_value(kind: str) -> None:
    assert all(hasattr(value.options, "name") for value in table(kind).values())


def test_a_name_with_a_colon_is_imported() -> None:
    assert lookup("model", "distcond.models.resnet:RESNET20") is table("model")["resnet20"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no_such_module_of_ours:METHOD", "method=no_such_module_of_ours:METHOD: No module named"),
        ("distcond.methods.float:NOTHING", "has no attribute 'NOTHING'"),
        ("distcond.methods.float:layers", "is a function, not a Method"),
        ("distcond.models.resnet:RESNET20", "is a Model, not a Method"),
        (":METHOD", "method=:METHOD: "),
        (".float:METHOD", "method=.float:METHOD: "),
    ],
)
def test_failed_import_is_refused(name: str, words: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        lookup("method", name)
    assert words in str(refusal.value)


def test_unknown_names_are_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match=r"resnet18\? valid: .*package.module:MODEL"):
        lookup("model", "resnet81")
