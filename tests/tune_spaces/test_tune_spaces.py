"""Every search space is readable data whose paths and values the config accepts, at both budgets."""

from __future__ import annotations

from pathlib import Path

import pytest

from distcond.tuning.objective import read_objective
from distcond.tuning.proposers import draw
from distcond.tuning.space import read_space
from distcond.tuning.words import words_of

SPACES = sorted(Path(__file__).parents[2].glob("tune_spaces/*.toml"))
#: What a space need not name itself: minutes on two CPU cores.
MOST_IMAGES = 8 * 512


def test_there_are_spaces() -> None:
    assert {path.stem for path in SPACES} >= {"noise_scale", "lam_sampler", "optimiser", "density", "width"}


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_the_header_says_question_budget_and_cost(path: Path) -> None:
    head = [line for line in path.read_text().split("\nquestion")[0].splitlines() if line.startswith("#")]
    assert head[0].startswith("# Question: ")
    assert any(line.startswith("# Budget: ") for line in head)
    assert any(line.startswith("# Small budget: ") for line in head)
    space = read_space(path)
    assert space.question.endswith("?") and space.trials >= 1 and space.cost


@pytest.mark.parametrize("small", [False, True])
@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_a_space_fits_the_config(path: Path, small: bool) -> None:
    space = read_space(path, small)  # which tries every end and every choice
    words_of(space.words)
    read_objective("hypervolume", space.config({}))
    if small:
        config = space.config({})
        assert config.data.name == "digits" and config.epochs * config.train_examples <= MOST_IMAGES


def test_the_choices_of_a_tuple_go_through_the_override_syntax() -> None:
    from distcond.seeding import generator

    space = read_space(next(path for path in SPACES if path.stem == "noise_scale"))
    found = {space.config(draw(space, generator(number))).optim.no_decay for number in range(20)}
    assert found == {("alpha",), ()}
