"""Every search space is readable data whose paths and values the config accepts, at both budgets."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from distcond.recipes.train_flops import TRAIN_FLOPS
from distcond.registry import lookup, table
from distcond.runs.grid import lam_grid
from distcond.seeding import generator
from distcond.training.flops import train_flops
from distcond.tuning.objective import read_objective
from distcond.tuning.options import read_options
from distcond.tuning.points import draw_point, draw_points
from distcond.tuning.space import read_space

SPACES = sorted(Path(__file__).parents[2].glob("tune_spaces/*.toml"))
#: What a space need not name itself: minutes on two CPU cores.
MOST_IMAGES = 8 * 512
#: What hours are told by: 36 minutes of training on two CPU cores, as docs/reports/results.md has it.
PACE, HOURS = "float_cifar10_resnet20", 0.6


def test_there_are_spaces() -> None:
    assert {path.stem for path in SPACES} >= {"noise_scale", "lam_sampler", "optimiser", "density", "width", "rivals"}


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_the_header_says_question_budget_and_cost(path: Path) -> None:
    head = [line for line in path.read_text().split("\nquestion")[0].splitlines() if line.startswith("#")]
    assert head[0].startswith("# Question: ")
    assert any(line.startswith("# Budget: ") for line in head)
    assert any(line.startswith("# Small budget: ") for line in head)
    space = read_space(path)
    assert space.question.endswith("?") and space.trials >= 1 and space.cost


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_cost_is_the_work_seed_0_draws(path: Path) -> None:
    space = read_space(path)
    points = draw_points(space, read_options(space.options))[: space.trials]
    flops = sum(train_flops(space.config(point)) for point in points)
    told = re.search(r"(\S+) training FLOPs, about (\d+) hours", space.cost)
    assert told is not None
    assert float(told[1]) == pytest.approx(flops, rel=0.01)
    assert float(told[2]) == pytest.approx(flops / TRAIN_FLOPS[PACE] * HOURS, abs=0.6)


@pytest.mark.parametrize("small", [False, True])
@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_a_space_fits_the_config(path: Path, small: bool) -> None:
    space = read_space(path, small)  # which tries every end and every choice
    read_options(space.options)
    read_objective("hypervolume", space.config({}))
    if small:
        config = space.config({})
        assert config.data.name == "digits" and config.epochs * config.train_examples <= MOST_IMAGES


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_draws_from_a_space_fit_the_config(path: Path) -> None:
    space = read_space(path, small=True)
    for number in range(25):
        lam_grid(space.config(draw_point(space, generator(number))))


def test_the_sampler_space_has_every_sampler_that_draws() -> None:
    space = read_space(next(path for path in SPACES if path.stem == "lam_sampler"))
    assert set(space.axis("sampler").values) == set(table("sampler")) - {"fixed"}
    drawn = [draw_point(space, generator(number)) for number in range(100)]
    for name, own in {
        "two_point": {"share", "high"}, "uniform": {"share", "high"}, "beta": {"share", "a", "b"},
        "fixed_share": {"share", "choices"}, "uniform_discrete": {"choices"},
    }.items():  # fmt: skip
        found = {path for one in drawn if one["sampler"] == name for path in one if path.startswith("sampler.")}
        assert found == {f"sampler.{option}" for option in own}


def test_the_density_space_has_every_method_with_masks() -> None:
    space = read_space(next(path for path in SPACES if path.stem == "density"))
    dense = lookup("method", "float").sparsity
    masked = {name for name, method in table("method").items() if method.sparsity is not dense}
    assert set(space.axis("method").values) == masked


def test_tuple_choices_go_through_the_override_syntax() -> None:
    space = read_space(next(path for path in SPACES if path.stem == "noise_scale"))
    found = {space.config(draw_point(space, generator(number))).optim.no_decay for number in range(20)}
    assert found == {("alpha",), ()}
