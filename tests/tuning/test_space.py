from __future__ import annotations

import sys
from pathlib import Path

import pytest

from distcond.errors import ConfigError
from distcond.runs.grid import lam_grid
from distcond.seeding import generator
from distcond.tuning.objective import read_objective, values
from distcond.tuning.options import read_options
from distcond.tuning.points import call_space, draw_point, draw_points, expand_grid
from distcond.tuning.space import Space, find_space, from_plain, read_space, shipped

HEAD = 'question = "?"\nrecipe = "float_digits"\ntrials = 3\n'


def written(folder: Path, text: str) -> Path:
    file = folder / "mine.toml"
    file.write_text(text)
    return file


@pytest.mark.parametrize("small", [False, True])
@pytest.mark.parametrize("name", shipped())
def test_every_draw_of_shipped_spaces_is_a_config(name: str, small: bool) -> None:
    space = find_space(name, small)
    assert from_plain(space.to_plain()) == space
    for number in range(20):
        lam_grid(space.config(draw_point(space, generator(0, number))))


def test_a_condition_decides_what_is_drawn() -> None:
    space = find_space("density")
    drawn = [draw_point(space, generator(0, number)) for number in range(40)]
    found = {proposal["method"] for proposal in drawn}
    assert found == {"smart", "floats", "flying_bird", "flying_bird_plus", "robust_bird"}
    assert all(("method.overlap" in proposal) == (proposal["method"] == "smart") for proposal in drawn)


def test_a_grid_has_every_combination_once() -> None:
    assert len(expand_grid(find_space("width"), 3)) == 6
    assert len(expand_grid(find_space("noise_scale"), 3)) == 3 * 2 * 2 * (1 + 3)
    drawn = expand_grid(find_space("density"), 2)
    # smart with overlap, floats, both flying birds with three distributions and an interval, robust_bird's search
    assert len(drawn) == 2 * 2 * 2 + 2 * 2 + 2 * (2 * 2 * 3 * 2) + 2 * 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[space."optim.lrr"]\nkind = "uniform"\nlow = 0.1\nhigh = 1\n', "unknown setting 'optim.lrr'"),
        ('[space."method.threshold"]\nkind = "uniform"\nlow = 0.1\nhigh = 1.5\n', "=1.5: must be at most 1"),
        ('[space."optim.lr"]\nkind = "choice"\nvalues = []\n', "values is empty"),
        ('[space."optim.lr"]\nkind = "choice"\nvalues = [0.1, "much"]\n', "optim.lr=much: expected a number"),
        ("[space]\n", "space is missing"),
        ("[spice]\n", "unknown word 'spice'"),
        ("[space\n", "no TOML"),
        (
            '[space."optim.lr"]\nkind = "uniform"\nlow = 0.1\nhigh = 1\nwhen = { method = "oat" }\n',
            "nothing of that path varies",
        ),
    ],
)
def test_wrong_file_is_refused_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as error:
        read_space(written(tmp_path, HEAD + text))
    assert "\n" not in str(error.value)


def test_an_unknown_space_names_those_there_are() -> None:
    with pytest.raises(ConfigError, match="did you mean noise_scale"):
        find_space("noisescale")
    with pytest.raises(ConfigError, match="cannot be read"):
        find_space("nowhere.toml")
    with pytest.raises(ConfigError, match="No module named"):
        find_space("nomodule:space")


def test_a_function_of_ones_own_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_space.py").write_text(
        "import torch\n"
        "def space(generator):\n"
        "    low = torch.rand((), generator=generator).item() < 0.5\n"
        "    return {'optim.lr': 0.01} if low else {'optim.lr': 0.1, 'optim.schedule': 'constant'}\n"
    )
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    drawn = draw_points(find_space("own_space:space"), read_options({"trials": 20}))
    assert [len(point) for point in drawn] in ([1, 2], [2, 1]), "the space holds two"


def test_error_of_a_space_function_is_one_line() -> None:
    with pytest.raises(ConfigError, match="the space's function raised ZeroDivisionError"):
        call_space(lambda source: 1 / 0, None)
    with pytest.raises(ConfigError, match="gave None; expected settings"):
        call_space(lambda source: None, None)


def test_an_objective_that_is_never_measured_is_refused() -> None:
    config = Space("s", "", "float_digits", 1).config({"eval.lam_grid": "0,1"})
    assert read_objective("ra@1", config).lam == 1
    with pytest.raises(ConfigError, match=r"never measured, eval\.lam_grid is 0, 1"):
        read_objective("ra@0.5", config)
    with pytest.raises(ConfigError, match="unknown objective 'accuracy'"):
        read_objective("accuracy", config)


def test_values_are_of_the_best_checkpoint() -> None:
    config = Space("s", "", "float_digits", 1).config({"eval.lam_grid": "0,1"})
    asked = [read_objective(name, config) for name in ("hypervolume", "sa@0", "ra@1", "train_flops", "seconds")]

    def record(epoch: int, sa: float, ra: float) -> dict[str, object]:
        val = [{"lam": 0.0, "sa": sa, "ra": 0.1}, {"lam": 1.0, "sa": 0.5, "ra": ra}]
        score = (sa + 0.1 + 0.5 + ra) / 4
        return {"epoch": epoch, "val": val, "val_score": score, "train_flops": 10.0 * epoch, "seconds": 2.0}

    found = values(asked, [record(1, 0.8, 0.4), record(2, 0.9, 0.1)], (0.0, 0.0))
    assert found == pytest.approx([0.5 * 0.4 + 0.3 * 0.1, 0.8, 0.4, 20.0, 4.0])
    assert values(asked, [{"epoch": 1}], (0.0, 0.0)) == []
