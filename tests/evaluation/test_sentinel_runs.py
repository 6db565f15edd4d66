"""The masking sentinel in runs and evaluations: what it writes where, what it costs, and that it changes nothing."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from distcond.config.overrides import resolve
from distcond.config.schema import AttackConfig, Config
from distcond.distributed.world import World
from distcond.errors import ConfigError
from distcond.evaluate import plan_evaluation
from distcond.evaluation import probes
from distcond.evaluation.blocks import BlockEvaluator
from distcond.evaluation.plan import EvalPlan
from distcond.evaluation.probes import explained, report_at
from distcond.evaluation.rows import keep_rows
from distcond.gradient_masking.evidence import PROBE
from distcond.progress.display import format_epoch
from distcond.results import history
from distcond.results.store import read_rows
from distcond.results.tables import as_records, markdown_table, trade_off_table
from distcond.runs.run_dir import RunDir
from distcond.training import checkpointing
from distcond.training.build_trainer import build_trainer
from distcond.training.fit import fit
from distcond.training.progress import ProgressWriter
from distcond.training.trainer import Trainer
from distcond.training.validate import sweep_work, validate

CPU = torch.device("cpu")
MASKED = {"zero_gradients", "more_steps_do_not_help", "loss_does_not_rise"}


def run(config: Config, path: Path) -> dict[str, Any]:
    """Train from one state of the global generator; everything that a run leaves behind, but for times."""
    torch.manual_seed(5)
    with RunDir(path).begin(config):
        fit(config, World(), path)
    job = build_trainer(config, World(), RunDir(path), 0)
    assert checkpointing.resume_training(job)
    rows = [replace(row, wall_seconds=0.0, warnings="", run_id="r") for row in read_rows(path)]
    timed = ("seconds", "images_per_second", "shares", "warnings")
    records = [{name: value for name, value in r.items() if name not in timed} for r in history.read(path)]
    optimiser = [state["momentum_buffer"] for state in job.optimiser.state_dict()["state"].values()]
    return {
        "weights and statistics": list(job.model.state_dict().values()), "optimiser": optimiser, "rows": rows,
        "history": records, "generator": [torch.get_rng_state()],
    }  # fmt: skip


def same(one: Any, other: Any) -> bool:
    if isinstance(one, list) and one and isinstance(one[0], torch.Tensor):
        return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    return bool(one == other)


def test_sentinel_changes_no_bit_of_a_run(small: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(probes, "SHARE", 1.0)  # a run this small would not afford it
    without = run(small("float", eval__sentinel="off", epochs=1), tmp_path / "off")
    assert all("warnings" not in record for record in history.read(tmp_path / "off"))
    for when, sweeps in (("final", 0), ("every", 1)):
        found = run(small("float", eval__sentinel=when, epochs=1), tmp_path / when)
        assert sum("warnings" in record for record in history.read(tmp_path / when)) == sweeps
        for part, value in without.items():
            assert same(value, found[part]), part


@pytest.fixture
def finished(trained: Path, tmp_path: Path) -> Path:
    """A run's directory that may be changed."""
    return shutil.copytree(trained, tmp_path / "run")


def saturated(network: Any) -> None:
    """Make the float32 gradients of a network vanish and leave its answers as they are."""
    with torch.no_grad():
        network.backbone.linear.weight.mul_(1e6)
        network.backbone.linear.bias.mul_(1e6)


def swept(run_path: Path, spoil: bool) -> tuple[Trainer, dict[str, Any]]:
    config = RunDir(run_path).config()
    job = build_trainer(config, World(), RunDir(run_path), 0)
    checkpointing.resume_training(job)
    if spoil:
        saturated(job.model)
    kept = validate(job, 7, ProgressWriter(run_path, 6, 3, 64, False))
    return job, kept


def test_a_validation_sweep_names_masked_gradients(finished: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(probes, "SHARE", 10.0)
    _, honest = swept(finished, spoil=False)
    assert honest["warnings"] == {}
    assert "warning" not in format_epoch({"epoch": 7, **honest}, 9)
    _, kept = swept(finished, spoil=True)
    assert set(kept["warnings"]) == MASKED
    line = format_epoch({"epoch": 7, **kept}, 9)
    assert "  warning: gradient masking: zero_gradients (100 % of " in line
    rows = [row for row in read_rows(finished) if row.split == "val" and row.epoch == 7]
    assert {(row.lam, row.attack): set(filter(None, row.warnings.split(","))) for row in rows} == {
        (0.0, "none"): set(), (0.0, "pgd"): set(), (1.0, "none"): set(), (1.0, "pgd"): MASKED,
    }  # fmt: skip


def test_probe_stays_below_its_share_of_work() -> None:
    attack = AttackConfig(num_steps=20)
    for work in (1e2, 5e3, 2e4, 1e5, 1e7):
        for points in (1, 4):
            examples = probes.affordable(10_000, points, attack, work)
            assert examples == 0 or probes.FEWEST <= examples <= probes.EXAMPLES
            assert examples * points * PROBE.forwards(attack) <= 0.02 * work
    assert probes.affordable(10_000, 4, attack, 1e7) == probes.EXAMPLES
    assert probes.affordable(40, 4, attack, 1e7) == 40
    assert probes.affordable(10_000, 1, attack, 1e4) == 0


@pytest.mark.parametrize("recipe", ["float_cifar10_resnet20", "float_digits"])
def test_the_default_is_affordable_on_the_small_recipes(recipe: str) -> None:
    config = resolve(recipe, {})
    assert config.eval.sentinel == "every"
    images, val = (50_000, 5_000) if "cifar10" in recipe else (1257, 180)
    training = images * (3 + 2 * config.attack.num_steps + 3) / 2  # half of the rows clean, half attacked
    attack = replace(config.eval.attack, num_steps=config.eval.val_steps, restarts=1)
    work = training + sweep_work(attack, val * len(config.eval.lam_grid))
    assert probes.affordable(val, 1, config.eval.attack, work) >= probes.FEWEST


def evaluated(run_path: Path, *words: str, spoil: bool = False) -> tuple[EvalPlan, list[Any]]:
    plan = plan_evaluation([str(run_path), "eval.test_examples=60", "eval.batch_size=40", *words])
    counter = BlockEvaluator(plan, CPU)
    if spoil:
        saturated(counter.model)
    for block in range(plan.blocks):
        counter(block)
    return plan, keep_rows(plan, 1, CPU)


def test_an_evaluation_names_masked_gradients(finished: Path) -> None:
    plan, rows = evaluated(finished, spoil=True)
    attacked = {row.lam: set(row.warnings.split(",")) for row in rows if row.attack != "none"}
    assert set(attacked) == {0.0, 1.0}
    assert all(names >= MASKED | {"larger_epsilon_does_not_help"} for names in attacked.values())
    assert {row.warnings for row in rows if row.attack == "none"} == {""}
    assert all("warning: gradient masking at lam 0" in text(rows) for text in (trade_off_table, markdown_table))
    assert all("zero_gradients" in str(record["warnings"]) for record in as_records(rows))
    assert "zero_gradients at lam 1 (100 % of " in explained(plan)
    assert report_at(plan, plan.point(1.0)).findings[0].value == 1.0


def test_honest_evaluation_is_probed_once_without_warning(finished: Path) -> None:
    plan, rows = evaluated(finished)
    files = plan.sentinel_files()
    assert {(point.lam, point.width) for point in files} == {(0.0, 1.0), (1.0, 1.0)}
    assert {row.warnings for row in rows} == {""}
    assert explained(plan) == ""
    assert "warning" not in trade_off_table(rows)
    assert set(files.values()) < set(plan.files()[0])
    stamps = {file: file.stat().st_mtime_ns for file in files.values()}
    evaluated(finished)
    assert {file: file.stat().st_mtime_ns for file in files.values()} == stamps
    # Another ball is another question.
    other, _ = evaluated(finished, "eval.attack.epsilon=0.05")
    assert not set(other.sentinel_files().values()) & set(files.values())
    next(iter(files.values())).write_text("half of a")
    with pytest.raises(ConfigError, match="delete"):
        report_at(plan, plan.point(0.0))


@pytest.mark.cluster
@pytest.mark.parametrize(("method", "seed"), [("float", 1), ("oat", 1), ("pgd_at", 1)])
def test_honest_runs_of_other_methods_are_not_accused(
    tiny: Any, digits_cache: Path, tmp_path: Path, monkeypatch: Any, method: str, seed: int
) -> None:
    monkeypatch.setattr(probes, "SHARE", 10.0)
    own = {"oat": {"method__identity_start": True}, "pgd_at": {"eval__lam_grid": "1"}}.get(method, {})
    config = tiny(
        method, data__loader="memory", data__cache_dir=str(digits_cache), epochs=6, batch_size=64, seed=seed,
        model__widths="8,16", attack__num_steps=2, attack__step_size=0.05, attack__epsilon=0.1, optim__lr=0.05,
        eval__attack__epsilon=0.1, eval__attack__step_size=0.025, eval__attack__num_steps=10, eval__every=2,
        eval__val_examples=60, eval__val_steps=1, eval__test_examples=20, eval__train_examples=0,
        precision__train="float32", launch="local", **own,
    )  # fmt: skip
    run(config, tmp_path / "run")
    assert [record["warnings"] for record in history.read(tmp_path / "run") if "val" in record] == [{}] * 3
    plan, rows = evaluated(tmp_path / "run", "eval.test_examples=128")
    assert {row.warnings for row in rows} == {""}
    for point in plan.sentinel_files():
        findings = report_at(plan, point).findings
        assert len(findings) == (8 if point.robust else 7)
        assert min(finding.p_value for finding in findings) > 0.05


def test_it_can_be_switched_off(finished: Path) -> None:
    plan, rows = evaluated(finished, "eval.sentinel=off", spoil=True)
    assert plan.sentinel_files() == {}
    assert {row.warnings for row in rows} == {""}
    assert plan_evaluation([str(finished), "attack=none"]).sentinel_files() == {}
