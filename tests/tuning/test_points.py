"""The points of random and grid searches."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from distcond.errors import ConfigError
from distcond.tuning.axis import Axis
from distcond.tuning.checks import check_search
from distcond.tuning.cluster_sweeps import sample_space
from distcond.tuning.options import read_options
from distcond.tuning.points import draw_points, run_key
from distcond.tuning.space import Space, find_space

LR = Axis("optim.lr", "loguniform", 0.01, 0.3)
METHOD = Axis("method", "choice", values=("float", "oat"))
ALPHA = Axis("method.alpha", "uniform", 0.1, 0.9, when=(("method", ("float",)),))
SPACE = Space("s", "?", "float_digits", 6, axes=(METHOD, ALPHA, LR))


def at_random(generator: Any) -> dict[str, Any]:
    import torch

    return {"batch_size": int(torch.randint(2, (), generator=generator)) + 32}


def of_trial(trial: Any) -> dict[str, Any]:
    return {"optim.lr": trial.suggest_float("lr", 0.1, 0.2)}


def broken(generator: Any) -> dict[str, Any]:
    raise ZeroDivisionError("division\nby zero")


def test_draws_depend_on_seed_and_number_only() -> None:
    six, nine = (draw_points(SPACE, read_options({"trials": count})) for count in (6, 9))
    assert six == nine[:6] != draw_points(SPACE, read_options({"trials": 6, "search_seed": 1}))


def test_conditional_axes_exist_only_where_they_apply() -> None:
    for options in ({"trials": 20}, {"search": "grid"}):
        points = draw_points(SPACE, read_options(options))
        assert {point["method"] for point in points} == {"float", "oat"}
        assert all(("method.alpha" in point) == (point["method"] == "float") for point in points)
    assert len(draw_points(SPACE, read_options({"search": "grid", "points": 3}))) == 3 * 3 + 3
    assert len(draw_points(SPACE, read_options({"search": "grid", "trials": 5}))) == 5


def test_no_run_is_drawn_twice(caplog: pytest.LogCaptureFixture) -> None:
    # 0.2 and "0.2" are one run; so are settings that do not affect the result.
    axes = (
        Axis("optim.lr", "choice", values=(0.1, 0.2, "0.2")),
        Axis("launch.cpus_per_worker", "choice", values=(1, 2)),
    )
    space = Space("few", "?", "float_digits", 9, axes=axes)
    with caplog.at_level(logging.INFO):
        points = draw_points(space, read_options({}))
    assert len(points) == 2 == len({run_key(space, point) for point in points})
    assert "few: search space exhausted after 2 of 9 trials" in caplog.text
    assert len(draw_points(space, read_options({"search": "grid"}))) == 2


def test_functions_draw_distinct_points_too() -> None:
    space = Space("f", "", "float_digits", 5, function=f"{__name__}:at_random")
    assert sorted(point["batch_size"] for point in draw_points(space, read_options({}))) == [32, 33]


@pytest.mark.parametrize(
    ("space", "options", "text"),
    [
        (
            Space("s", "?", "float_digits", 3, axes=(Axis("batch_size", "choice", values=(0, -1, -2)),)),
            {},
            "batch_size",
        ),
        (Space("s", "?", "float_digits", 3, axes=(LR, Axis("method.alph", "uniform", 0, 1))), {}, "method.alph"),
        (Space("s", "", "float_digits", 3, function=f"{__name__}:of_trial"), {}, "search=random"),
        (Space("s", "", "float_digits", 3, function=f"{__name__}:at_random"), {"search": "grid"}, "search=grid"),
        (Space("s", "", "float_digits", 3, function=f"{__name__}:at_random"), {"search": "tpe"}, "search=tpe"),
        (Space("s", "", "float_digits", 3, function=f"{__name__}:broken"), {}, "ZeroDivisionError: division"),
        (Space("s", "?", "float_digits", 3, axes=(LR, ALPHA, METHOD)), {"search": "grid", "points": 20000}, "grid"),
    ],
)
def test_points_that_are_no_runs_are_refused(space: Space, options: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError) as error:
        check_search(read_options(options), space)
    assert text in str(error.value) and "\n" not in str(error.value)


def test_jobs_sample_the_points_of_a_sweep() -> None:
    options = read_options({"trials": 4, "search_seed": 7})
    recipe, samples = sample_space("density", 4, 7)
    assert samples == draw_points(find_space("density"), options) and recipe == find_space("density").recipe
