"""The map that makes a dial even: fitted on validation, kept with its run, refused for another."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from distcond import calibrate, evaluate
from distcond.errors import ConfigError
from distcond.evaluate import plan_evaluation
from distcond.models.weights_digest import weights_digest
from distcond.results.store import read_rows
from distcond.runs.build import build_model
from distcond.runs.even_dial import EvenDial, fit_even_map, isotonic_regression
from distcond.runs.load_run import find_checkpoint, load
from distcond.runs.run_dir import RunDir

FEW = ("eval.val_examples=40", "eval.batch_size=20", "eval.dial_grid=0,0.5,1", "launch.workers=1", "eval.sentinel=off")


def even(*corners: tuple[float, ...]) -> EvenDial:
    return EvenDial("weights", "ra", 1.0, "", *corners)


def test_equal_steps_of_a_known_curve() -> None:
    ts = [step / 20 for step in range(21)]
    found = even(*fit_even_map("ra", {t: 0.1 + 0.5 * t**2 for t in ts}))
    for dial in (0.0, 0.25, 0.49, 0.81, 1.0):
        assert found(dial) == pytest.approx(dial**0.5, abs=0.02)
    assert even(*fit_even_map("sa", {t: 0.9 - 0.2 * t**2 for t in ts}))(0.49) == pytest.approx(0.7, abs=0.02)


@pytest.mark.parametrize("seed", range(20))
def test_the_map_rises_whatever_was_counted(seed: int) -> None:
    source = np.random.default_rng(seed)
    curve = {t: float(source.random()) for t in (0.0, 0.15, 0.3, 0.5, 0.7, 0.85)} | {1.0: 1.5}
    found = even(*fit_even_map("ra", curve))
    places = [found(step / 50) for step in range(51)]
    assert places[0] == 0 and places[-1] == 1 and all(a <= b for a, b in pairwise(places))
    assert all(a < b for a, b in pairwise(found.dial)) and all(a < b for a, b in pairwise(found.t))


def test_monotone_values_are_the_closest() -> None:
    assert isotonic_regression([1.0, 3.0, 2.0, 4.0]) == [1.0, 2.5, 2.5, 4.0]
    assert isotonic_regression([3.0, 2.0, 1.0]) == [2.0, 2.0, 2.0]


def test_an_accuracy_that_does_not_rise_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^even=ra: RA does not rise from t 0 to t 1"):
        fit_even_map("ra", {0.0: 0.5, 0.5: 0.4, 1.0: 0.3})


def changed(run: Path, ending: str, amount: float) -> None:
    """Move the parameters of the run's best checkpoint whose names end so."""
    file = find_checkpoint(RunDir(run), "best") / "shared.pt"
    shared, source = torch.load(file, weights_only=True), torch.Generator().manual_seed(0)
    for name, tensor in shared["model"].items():
        if name.endswith(ending):
            tensor += amount * torch.randn(tensor.shape, generator=source)
    torch.save(shared, file)


@pytest.fixture
def lopsided(plan: Any) -> Path:
    """A run whose robust end knows little: SA falls along its dial for sure."""
    run: Path = plan().run_path
    changed(run, "norm.adv.bias", 3.0)
    return run


def test_a_fitted_dial_is_kept_and_used(lopsided: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, before = lopsided, len(read_rows(lopsided))
    assert calibrate.main([str(run), "even=sa", *FEW]) == 0
    said = capsys.readouterr().out
    assert "dial to t: 0 -> 0," in said and "use it: eval.dial=weights eval.dial_even=sa" in said
    (file,) = (run / "results").glob("dial-*.json")
    kept = json.loads(file.read_text())
    assert kept["weights"] == weights_digest(load(run)) and (kept["dial"][0], kept["t"][-1]) == (0, 1)
    assert len(read_rows(run)) == before, "no row of the search"
    found = EvenDial(**kept | {"dial": tuple(kept["dial"]), "t": tuple(kept["t"])})
    words = [str(run), "eval.dial=weights", "eval.dial_even=sa", "eval.dial_grid=0,0.3,1", "eval.test_examples=40"]
    assert [point.t for point in plan_evaluation(words).points] == [0, found(0.3), 1]
    assert evaluate.main([*words, "eval.batch_size=20", "launch.workers=1", "eval.sentinel=off", "attack=fgsm"]) == 0
    assert {row.blend_t for row in read_rows(run) if row.blend} == {0, found(0.3), 1}


def test_a_map_of_other_weights_is_refused(lopsided: Path) -> None:
    calibrate.main([str(lopsided), "even=sa", *FEW])
    asked = [str(lopsided), "eval.dial=weights", "eval.dial_even=sa"]
    plan_evaluation(asked)
    changed(lopsided, "linear.bias", 1.0)
    with pytest.raises(ConfigError, match=r"dial-weights-sa-lam1-best\.json: was fitted for other weights") as refusal:
        plan_evaluation(asked)
    assert "\n" not in str(refusal.value)


def test_no_map_yet_is_refused(plan: Any) -> None:
    with pytest.raises(ConfigError, match=r"^eval\.dial_even=sa: no dial-weights-sa-lam1-best\.json yet"):
        plan("eval.dial=weights", "eval.dial_even=sa")
    with pytest.raises(ConfigError, match=r"^eval\.dial_even=ra: a switch has no map"):
        plan("eval.dial_even=ra")


REFUSED = {
    ("even=rb",): "unknown value for even 'rb'",
    ("even=ra", "ra=0.5"): "even=ra ra=0.5: one at a time",
    ("even=ra", "eval.dial=switch"): "eval.dial=switch: there is no map",
}


@pytest.mark.parametrize("words", REFUSED)
def test_a_bad_request_for_a_map_is_refused(plan: Any, words: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as refusal:
        calibrate.main([str(plan().run_path), *words])
    assert REFUSED[words] in str(refusal.value) and "\n" not in str(refusal.value)


def test_training_refuses_a_map_it_cannot_have(small: Any) -> None:
    with pytest.raises(ConfigError, match=r"^eval\.dial_even=ra: fitted after training"):
        build_model(small("float", eval__dial="weights", eval__dial_even="ra"))


def test_a_target_is_found_along_the_dial(plan: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run = plan().run_path
    assert calibrate.main([str(run), "ra=0.05", "confidence=0.5", "resolution=0.25", "eval.dial=weights", *FEW]) == 0
    said = capsys.readouterr().out
    assert said.startswith("dial = ") and "(weights t " in said and "5 dial" in said
