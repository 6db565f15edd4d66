"""The output of `--list`, and the header of `--help`."""

from __future__ import annotations

import pytest

from distcond.config.command_line import describe_recipe, list_registered
from distcond.errors import ConfigError
from distcond.registry import KINDS, table


def test_list_has_every_kind() -> None:
    everything = list_registered("all", long=True).splitlines()
    for title in ("recipes", "methods", "models", "data sets", "lam samplers"):
        assert title in everything
    assert list_registered("methods") == list_registered("method")
    with pytest.raises(ConfigError, match=r"'methodz': .*method"):
        list_registered("methodz")


@pytest.mark.parametrize("long", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_every_value_has_one_line(kind: str, long: bool) -> None:
    text = list_registered(kind, long)
    first_words = [line.split()[0] for line in text.splitlines() if line.startswith("  ")]
    for name, value in table(kind).items():
        assert first_words.count(name) == 1
        assert value.summary in text or not long


@pytest.mark.parametrize("kind", ["all", *KINDS])
def test_short_lists_fit_80_columns(kind: str) -> None:
    lines = list_registered(kind).splitlines()
    assert [line for line in lines if len(line) > 80] == []
    assert len(lines) < 50 or kind == "recipe"


def test_short_list_names_all_but_recipes() -> None:
    names = list_registered("all").replace(",", " ").split()
    for kind in set(KINDS) - {"recipe"}:
        assert set(table(kind)) <= set(names)


def test_recipes_are_grouped_by_paper() -> None:
    lines = list_registered("recipe").splitlines()
    recipes, heading, found = table("recipe"), "", {}
    for line in lines:
        if line.startswith("    "):
            found[line.split()[0]] = heading
        elif line.startswith("  "):
            heading = line
    assert set(found) == set(recipes)
    for name, recipe in recipes.items():
        assert (recipe.paper.arxiv if recipe.paper else "no paper") in found[name]
    assert len([line for line in lines if "arXiv 2204.00426" in line]) == 1


def test_recipes_show_their_epochs_and_cost() -> None:
    line = next(line for line in list_registered("recipe").splitlines() if line.split()[:1] == ["oat_cifar10_resnet34"])
    assert line.split()[1:6] == ["200", "epochs", "2", "GPU", "h"]
    line = next(line for line in list_registered("recipe").splitlines() if line.split()[:1] == ["oat_digits"])
    assert "<0.01 GPU h" in line


def test_header_of_a_recipe() -> None:
    text = describe_recipe("oats_cifar10_resnet34")
    lines = {line.split()[0]: line for line in text.splitlines() if line.startswith("  ") and line[2] != " "}
    assert list(lines) == ["paper", "reproduces", "deviations", "expect", "cost", "ran"]
    assert "arXiv 2010.11828" in lines["reproduces"]
    assert "training loop" in lines["deviations"]
    assert "6.45e+17 FLOPs of training without evaluation: 3.6 hours of one H100-class GPU" in lines["cost"]
    assert "validation images under PGD-7" in describe_recipe("oat_cifar10_resnet34")
