"""An evaluation along a dial of blends: its rows, what attacks it, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from distcond import evaluate
from distcond.config.command_line import parse
from distcond.data.loader import to_float
from distcond.distributed.world import World
from distcond.errors import ConfigError
from distcond.evaluate import plan_evaluation
from distcond.evaluation.rows import keep_rows, tally
from distcond.models.dial import network_at
from distcond.operating_point import OperatingPoint
from distcond.results.store import read_rows
from distcond.runs.run_dir import RunDir
from distcond.training.fit import fit

CPU = torch.device("cpu")
DIAL = ("eval.dial_grid=0,0.5,1", "launch.workers=1", "eval.sentinel=off")


@pytest.mark.parametrize("rule", ["weights", "outputs"])
def test_evaluate_counts_along_the_dial(plan: Any, capsys: pytest.CaptureFixture[str], rule: str) -> None:
    run = plan().run_path
    words = [str(run), f"eval.dial={rule}", *DIAL, "eval.test_examples=40", "eval.batch_size=16", "attack=pgd"]
    assert evaluate.main(words) == 0
    said = capsys.readouterr().out
    assert f"blend of {rule}, t from lam 0 to lam 1" in said
    found = [row for row in read_rows(run) if row.blend]
    assert {(r.blend, r.lam, r.blend_t, r.num_examples) for r in found} == {(rule, 1.0, t, 40) for t in (0, 0.5, 1)}
    assert len(found) == 6


def test_ends_of_the_dial_are_the_switch(plan: Any, carried_out: Any) -> None:
    blended, switched = plan("eval.dial=weights", *DIAL), plan("eval.lam_grid=0,1", "eval.sentinel=off")
    counts = []
    for made in (blended, switched):
        carried_out(made)
        rows = keep_rows(made, 1, CPU)
        counts.append({(row.blend_t if row.blend else row.lam, row.attack): row.num_correct for row in rows})
    assert all(counts[0][at] == count for at, count in counts[1].items())


def test_outputs_are_attacked_through_each_end_too(plan: Any, carried_out: Any) -> None:
    made = plan("eval.dial=outputs", "eval.dial_grid=0.5", "eval.sentinel=off", "attack=pgd")
    counter = carried_out(made)
    (measure,) = made.attacked(made.attacks[0], "fixed")
    network = network_at(counter.model, OperatingPoint(1.0, "outputs", 0.5), noise_seed=made.config.eval.noise_seed)
    ((raw, y),) = counter.source.read([made.members(0)])
    clean = (network(to_float(raw)).argmax(1) == y).numpy()
    survived = tally(made, measure).correct[: len(y)]
    assert np.all(clean | ~survived) and survived.sum() < clean.sum()
    alone = plan("eval.dial=weights", "eval.dial_grid=0.5", "eval.sentinel=off", "attack=pgd")
    carried_out(alone)
    (other,) = alone.attacked(alone.attacks[0], "fixed")
    assert tally(made, measure).forward_rows > 3 * tally(alone, other).forward_rows / 2


def test_worst_case_over_the_dial_is_counted(plan: Any, carried_out: Any) -> None:
    made = plan("eval.dial=weights", *DIAL, "threat=adaptive,worst", "attack=fgsm")
    carried_out(made)
    rows = [row for row in keep_rows(made, 1, CPU) if row.attack == "fgsm"]
    by = {(row.threat, row.blend_t): row.num_correct for row in rows}
    assert all(by["worst", t] <= by["adaptive", t] for t in (0.0, 0.5, 1.0))


REFUSED = {
    "eval.dial_grid=0,1.5": "eval.dial_grid=1.5: must be at most 1",
    "eval.dial_grid=-0.5": "eval.dial_grid=-0.5: must be at least 0",
    "eval.dial=blend": "unknown value for eval.dial 'blend'",
    "eval.dial_lam=-1": "eval.dial_lam=-1: must be at least 0",
    "eval.dial_lam=0": "eval.dial_lam=0: no robust-end-best.json yet",
    "eval.lam_grid=0,1": "eval.lam_grid: changes nothing with eval.dial=weights",
    "threat=transfer": "threat=transfer: along a dial of blends say from which lam: attack_lam=0,1",
}


@pytest.mark.parametrize("word", REFUSED)
def test_a_bad_dial_is_refused(plan: Any, word: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        plan("eval.dial=weights", word)
    assert REFUSED[word] in str(refusal.value) and "\n" not in str(refusal.value)


@pytest.mark.parametrize("word", ["eval.dial_grid=0,1", "eval.dial_lam=0.2"])
def test_a_switch_refuses_settings_of_blends(plan: Any, word: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{word.partition('=')[0]}: .*eval\.dial=switch"):
        plan(word)
    with pytest.raises(ConfigError, match=rf"^{word.partition('=')[0]}: .*eval\.dial=switch"):
        parse(["eval.dial=switch", word])


def test_a_blend_of_one_path_is_refused(small: Any, tmp_path: Path) -> None:
    config = small("pgd_at", epochs=1, train_examples=64, eval__every=0)
    with RunDir(tmp_path / "run").begin(config):
        fit(config, World(), tmp_path / "run")
    with pytest.raises(
        ConfigError, match=r"^eval\.dial=weights: pgd_at has one path, a blend needs two; valid: switch$"
    ):
        plan_evaluation([str(tmp_path / "run"), "eval.dial=weights"])


def test_training_ends_in_rows_along_the_dial(small: Any, tmp_path: Path) -> None:
    config = small("smart", epochs=1, train_examples=64, eval__dial="weights", eval__dial_grid="0,0.5,1")
    with RunDir(tmp_path / "run").begin(config):
        fit(config, World(), tmp_path / "run")
    rows = [row for row in read_rows(tmp_path / "run") if (row.split, row.checkpoint) == ("test", "best")]
    assert sorted((row.blend, row.blend_t, row.attack) for row in rows) == [
        ("weights", t, attack) for t in (0.0, 0.5, 1.0) for attack in ("none", "pgd")
    ]
    density = {row.blend_t: row.density for row in rows}
    assert density[0.5] > max(density[0.0], density[1.0])
