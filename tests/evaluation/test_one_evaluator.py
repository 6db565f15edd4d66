"""The sweeps of a run, validation, calibration and evaluations count the same and begin at the same points."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from distcond import calibrate, evaluate
from distcond.atomic_io import read_json, write_json
from distcond.attacks import pgd
from distcond.distributed.world import World
from distcond.errors import ConfigError, StopRequested
from distcond.evaluate import plan_evaluation
from distcond.evaluation import outcomes, spec
from distcond.evaluation.rows import tally
from distcond.results import history
from distcond.results.row import Row, key
from distcond.results.store import read_rows
from distcond.runs.run_dir import RunDir
from distcond.training import validate as run_sweeps
from distcond.training.fit import fit

NOW = ("eval.sentinel=off", "launch.workers=1")


@pytest.fixture
def run(small: Any, whole: Any, tmp_path: Path) -> Path:
    """A run that was validated after each of its epochs, and may be changed."""
    return Path(shutil.copytree(whole(small("float", epochs=3)), tmp_path / "run"))


def counts(path: Path, split: str) -> dict[tuple[str, float], int]:
    """Right answers of the best checkpoint by attack and lam."""
    best = max((r for r in history.read(path) if r.get("val")), key=lambda record: record["val_score"])["epoch"]
    rows = [row for row in read_rows(path) if row.split == split and row.epoch == best and row.checkpoint != "last"]
    return {(row.attack, row.lam): row.num_correct for row in rows}


def made(path: Path) -> dict[Path, int]:
    return {file: file.stat().st_mtime_ns for file in path.glob("outcomes/*/*.npz")}


def test_evaluation_finds_what_training_counted(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, stamps = counts(run, "test"), made(run)
    assert {attack for attack, _ in before} == {"none", "pgd"}
    assert stamps
    assert evaluate.main([str(run), *NOW]) == 0
    assert made(run) == stamps, "nothing is counted again"
    assert counts(run, "test") == before
    shutil.rmtree(run / "outcomes")
    assert evaluate.main([str(run), *NOW]) == 0
    assert counts(run, "test") == before
    capsys.readouterr()


def test_rows_of_both_measure_one_thing(run: Path) -> None:
    def keys() -> set[Any]:
        return {key(row) for row in read_rows(run) if (row.split, row.checkpoint) == ("test", "best")}

    before = keys()
    evaluate.main([str(run), *NOW])
    assert keys() == before


def test_selection_is_by_the_same_counts(run: Path) -> None:
    words = ["split=val", "eval.val_examples=45", "eval.attack.num_steps=1", *NOW]
    before = counts(run, "val")
    assert evaluate.main([str(run), *words]) == 0
    rows = [row for row in read_rows(run) if (row.split, row.checkpoint) == ("val", "best")]
    assert {(row.attack, row.lam): row.num_correct for row in rows} == before
    best = max((r for r in history.read(run) if r.get("val")), key=lambda record: record["val_score"])
    score = sum(row.num_correct / row.num_examples for row in rows) / len(rows)
    assert score == pytest.approx(best["val_score"])


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`starts()`: the random starts since the last call, as bytes."""
    found: set[bytes] = set()
    real = pgd.uniform

    def noted(seeds: Tensor, like: Tensor) -> Tensor:
        drawn = real(seeds, like)
        found.update(start.numpy().tobytes() for start in drawn)
        return drawn

    def taken() -> set[bytes]:
        kept = set(found)
        found.clear()
        return kept

    monkeypatch.setattr(pgd, "uniform", noted)
    return taken


def test_all_commands_begin_at_the_same_points(small: Any, tmp_path: Path, starts: Any, capsys: Any) -> None:
    config = small("pgd_at", epochs=1, eval__test_examples=45, eval__train_examples=0, eval__lam_grid="1")
    with RunDir(tmp_path / "run").begin(config):
        fit(config, World(), tmp_path / "run")
    # One law for both splits: a start goes by an example's index in its split.
    run, while_trained = tmp_path / "run", starts()
    evaluate.main([str(run), *NOW, "split=val", "eval.batch_size=7"])
    validated = starts()
    evaluate.main([str(run), *NOW, "eval.batch_size=11", "attack=pgd,pgd-last,cw"])
    tested = starts()
    calibrate.main([str(run), "ra=0.01", "confidence=0.5", "eval.batch_size=9", *NOW])
    calibrated = starts()
    assert validated and tested
    assert validated | tested <= while_trained
    assert calibrated <= validated
    capsys.readouterr()


def test_a_stopped_final_sweep_resumes(small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, path = small("float", epochs=1, eval__every=0, eval__train_examples=0), tmp_path / "run"
    real, seen = run_sweeps.sweep, []

    def stopped(*args: Any, **more: Any) -> Any:
        for count in real(*args, **more):
            yield count
            if more.get("keep"):
                raise StopRequested

    monkeypatch.setattr(run_sweeps, "sweep", stopped)
    with RunDir(path).begin(config):
        assert not fit(config, World(), path)
    before = made(path)
    assert before and not (path / "finished.json").exists()
    monkeypatch.setattr(run_sweeps, "sweep", real)
    with RunDir(path).begin(config):
        assert fit(config, World(), path)
    after = made(path)
    assert {file: after[file] for file in before} == before
    assert len(after) == 2 * len(before), "the other lam"
    assert not seen


def on_rank(rank: int, world: int, config: Any, path: Path) -> list[tuple[Any, ...]]:
    fit(config, World(rank, world), path)
    rows = [row for row in read_rows(path) if row.split == "test"] if rank == 0 else []
    return [(row.checkpoint, row.lam, row.attack, row.num_correct, row.num_examples, row.world_size) for row in rows]


def test_two_ranks_keep_every_outcome(small: Any, tmp_path: Path, run_ranks: Any) -> None:
    config, path = small("float", epochs=1, eval__every=0, eval__train_examples=0), tmp_path / "run"
    with RunDir(path).begin(config):
        rows = run_ranks(on_rank, 2, config, path)[0]
    plan = plan_evaluation([str(path), *NOW])
    assert not any(outcomes.read(file).statistics for file in made(path)), "as one rank writes them"
    kept = {
        (cell.lam, cell.attack.name if cell.attack else "none"): sum(
            outcomes.read(plan.file(cell, block), plan.members(block)).correct.sum() for block in range(plan.blocks)
        )
        for cell in plan.cells()
    }
    assert {(lam, attack): right for which, lam, attack, right, _, _ in rows if which == "best"} == kept
    assert {(examples, size) for *_, examples, size in rows} == {(61, 2)}


def test_earlier_attack_names_warn_once(
    run: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spec, "_warned", set())
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert [attack.name for attack in plan_evaluation([str(run), "attack=pgd-best,fgsm"]).attacks] == [
                "pgd",
                "fgsm",
            ]
    warned = [record.getMessage() for record in caplog.records if "pgd-best" in record.getMessage()]
    assert len(warned) == 1 and "attack=pgd-best" in warned[0]
    with pytest.raises(ConfigError, match=r"'pgd-bst'"):
        plan_evaluation([str(run), "attack=pgd-bst"])


def test_default_attack_is_that_of_the_run(small: Any, tmp_path: Path) -> None:
    config, path = small("float", epochs=1, eval__every=0, eval__attack_name="pgd-last"), tmp_path / "run"
    with RunDir(path).begin(config):
        fit(config, World(), path)
    assert {row.attack for row in read_rows(path)} == {"none", "pgd-last"}
    assert [attack.name for attack in plan_evaluation([str(path)]).attacks] == ["pgd-last"]
    assert [attack.name for attack in plan_evaluation([str(path), "attack=pgd"]).attacks] == ["pgd"]


def as_before(path: Path) -> None:
    """Change what lies in a run's directory to what versions with two evaluators wrote."""
    for file in path.glob("outcomes/pgd-*/settings.json"):
        settings = read_json(file)
        del settings["starts"]
        write_json(file, settings | {"attack": "pgd-best"})
        file.parent.rename(file.parent.with_name(file.parent.name.replace("pgd-", "pgd-best-") + "0"))


def test_outcomes_of_an_earlier_evaluator_are_made_again(
    run: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    as_before(run)
    clean = {file: stamp for file, stamp in made(run).items() if file.parent.name.startswith("clean")}
    old = set(made(run)) - set(clean)
    assert clean and old
    with caplog.at_level(logging.INFO):
        assert evaluate.main([str(run), *NOW]) == 0
    assert sum("earlier version" in record.getMessage() for record in caplog.records) == 1
    after = made(run)
    assert {file: after[file] for file in clean} == clean, "clean answers stand"
    assert {file.parent.name.split("-")[1] for file in set(after) - old - set(clean)} == {"lam0", "lam1"}
    caplog.clear()
    with caplog.at_level(logging.INFO):
        assert evaluate.main([str(run), *NOW]) == 0
    assert not any("earlier version" in record.getMessage() for record in caplog.records)
    capsys.readouterr()


def test_rows_of_earlier_versions_keep_their_attacks(run: Path) -> None:
    rows = [row for row in read_rows(run) if (row.split, row.checkpoint, row.attack) == ("test", "best", "pgd")]
    assert rows
    shutil.rmtree(run / "results")
    (run / "results").mkdir()

    def written(row: Row, attack: str) -> str:
        return json.dumps(asdict(row) | {"attack": attack, "schema_version": 4})

    lines = [written(row, attack) for row in rows for attack in ("pgd", "pgd-best")]
    (run / "results" / "test-best.jsonl").write_text("\n".join(lines) + "\n")
    found = read_rows(run)
    assert sorted((row.lam, row.attack) for row in found) == [
        (lam, attack) for lam in (0.0, 1.0) for attack in ("pgd", "pgd-last")
    ]
    evaluate.main([str(run), *NOW])
    after = [row for row in read_rows(run) if row.attack != "none"]
    assert len(after) == len(found), "the same measurement replaces pgd-best's, and pgd-last's stays"


def test_every_rank_agrees_on_device_independent_starts() -> None:
    from distcond.attacks.starts import example_seeds, uniform

    like = torch.zeros((2, 3, 4, 4), dtype=torch.float64)
    assert uniform(example_seeds(0, [1, 2]), like).dtype == torch.float64
    assert torch.equal(uniform(example_seeds(0, [1, 2]), like).float(), uniform(example_seeds(0, [1, 2]), like.float()))


def test_outcomes_ignore_the_block_size(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = []
    for size in (61, 20, 7):
        words = [str(run), "attack=pgd,pgd-last,cw", "eval.attack.restarts=2", f"eval.batch_size={size}", *NOW]
        assert evaluate.main(words) == 0
        plan = plan_evaluation(words)
        found.append({(cell.attack, cell.lam): tally(plan, cell).correct for cell in plan.cells()})
    for other in found[1:]:
        assert all(np.array_equal(other[cell], right) for cell, right in found[0].items())
    capsys.readouterr()
