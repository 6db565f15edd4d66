"""The robust end of a blend: chosen on validation, stored with its run, refused for another network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from distcond import calibrate, evaluate
from distcond.errors import ConfigError
from distcond.evaluate import plan_evaluation
from distcond.models.weights_digest import weights_digest
from distcond.results.store import read_rows
from distcond.runs.build import build_model
from distcond.runs.load_run import find_checkpoint, load
from distcond.runs.robust_end import choose_lam
from distcond.runs.run_dir import RunDir

FEW = ("eval.val_examples=40", "eval.batch_size=20", "launch.workers=1", "attack=fgsm", "eval.lam_grid=0,0.2,0.7,1")
BLEND = ("eval.dial=weights", "eval.dial_lam=0", "eval.dial_grid=0,0.5,1")


def test_ra_decides_and_sa_breaks_ties() -> None:
    ra, sa = {0.2: 0.4, 0.7: 0.4, 1.0: 0.3}, {0.2: 0.8, 0.7: 0.7, 1.0: 0.99}
    assert choose_lam("ra", sa, ra) == 0.2
    assert choose_lam("mean", sa, ra) == 1.0
    assert choose_lam("ra", dict.fromkeys(sa, 0.5), ra) == 0.7, "of equal ones the larger lam"


def test_chosen_end_is_stored_and_used(plan: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run = plan().run_path
    assert calibrate.main([str(run), "end=ra", *FEW]) == 0
    printed = capsys.readouterr().out
    stored = json.loads((run / "results" / "robust-end-best.json").read_text())
    assert set(stored["ra"]) == {"0.2", "0.7", "1"} and stored["ra"][f"{stored['lam']:g}"] == max(stored["ra"].values())
    assert stored["weights"] == weights_digest(load(run)) and "eval.dial_lam=0" in printed
    assert [point.lam for point in plan_evaluation([str(run), *BLEND]).points] == [stored["lam"]] * 3
    few = ("eval.test_examples=40", "eval.batch_size=20", "launch.workers=1", "eval.sentinel=off", "attack=fgsm")
    assert evaluate.main([str(run), *BLEND, *few]) == 0
    assert {row.lam for row in read_rows(run) if row.blend} == {stored["lam"]}, "rows store the lam, never 0"
    assert calibrate.main([str(run), "sa=0.05", "eval.dial=weights", "eval.dial_lam=0", *FEW[:4]]) == 0


def test_end_of_other_weights_is_refused(plan: Any) -> None:
    run: Path = plan().run_path
    assert calibrate.main([str(run), "end=mean", *FEW]) == 0
    file = find_checkpoint(RunDir(run), "best") / "shared.pt"
    shared = torch.load(file, weights_only=True)
    shared["model"][next(name for name in shared["model"] if name.endswith("weight"))] += 1
    torch.save(shared, file)
    with pytest.raises(ConfigError, match=r"robust-end-best\.json: was chosen for other weights"):
        plan_evaluation([str(run), *BLEND])


@pytest.mark.parametrize("text", ["", "[]", '{"lam": 0.2}', '{"lam": "x", "weights": ""}'])
def test_damaged_end_is_refused(plan: Any, text: str) -> None:
    run: Path = plan().run_path
    (run / "results").mkdir(exist_ok=True)
    (run / "results" / "robust-end-best.json").write_text(text)
    with pytest.raises(ConfigError, match=r"robust-end-best\.json: damaged"):
        plan_evaluation([str(run), *BLEND])


REFUSED = {
    ("end=sa",): "unknown value for end 'sa'",
    ("end=ra", "even=ra"): "one at a time",
    ("end=ra", "ra=0.5"): "one at a time",
    ("end=ra", "eval.dial=weights"): "valid: eval.dial=switch",
    ("end=ra", "eval.lam_grid=0"): "no lam on the robust path",
}


@pytest.mark.parametrize("options", REFUSED)
def test_bad_request_for_an_end_is_refused(plan: Any, options: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as refusal:
        calibrate.main([str(plan().run_path), *options])
    assert REFUSED[options] in str(refusal.value) and "\n" not in str(refusal.value)


def test_training_refuses_an_end_not_chosen(small: Any) -> None:
    with pytest.raises(ConfigError, match=r"^eval\.dial_lam=0: chosen after training"):
        build_model(small("float", eval__dial="weights", eval__dial_lam=0.0))
