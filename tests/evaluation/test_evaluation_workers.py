"""Processes that share an evaluation: the same outcomes for any number of them, and after any of them was killed."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable
from multiprocessing import active_children
from pathlib import Path

import numpy as np
import pytest
import torch

from distcond.errors import ConfigError
from distcond.evaluate import main, plan_evaluation
from distcond.evaluation import outcomes
from distcond.evaluation.plan import EvalPlan
from distcond.launch.block_pool import block_pool
from support.installed import needs
from support.processes import Process, run, start
from support.waiting import wait_until

needs("pyautoattack", "it is an optional extra: pip install 'distcond[attacks]'")

FEW = ["eval.lam_grid=0,1", "eval.batch_size=10", "eval.sentinel=off"]
BLOCKS = ["attack=autoattack", "eval.attack.num_steps=3", "eval.test_examples=50", *FEW]


@pytest.fixture
def copy(trained: Path, tmp_path: Path) -> Callable[[str], Path]:
    """`copy(name)`: the trained run without outcomes."""
    return lambda name: Path(
        shutil.copytree(trained, tmp_path / name / "run", ignore=shutil.ignore_patterns("outcomes"))
    )


def broken_by(plan: EvalPlan) -> list[np.ndarray]:
    return [
        outcomes.read(plan.file(measure, block), plan.members(block)).broken_by
        for measure in plan.cells()
        for block in range(plan.blocks)
    ]


def started(path: Path, workers: int) -> Process:
    command = [sys.executable, "-m", "distcond.evaluate", str(path), *BLOCKS, f"launch.workers={workers}"]
    return start(command, env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.getcwd()})


def files(path: Path) -> dict[Path, int]:
    return {file: file.stat().st_mtime_ns for file in path.glob("outcomes/*/*.npz")}


def children(pid: int) -> list[int]:
    """Processes whose parent is `pid`."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(words[1]) == pid:
            found.append(int(stat.parent.name))
    return found


def test_workers_agree_replace_the_dead_raise_errors(copy: Callable[[str], Path]) -> None:
    alone, path = (
        plan_evaluation([str(copy(name)), "attack=fgsm", "eval.test_examples=40", *FEW]) for name in ("1", "2")
    )
    with block_pool(alone, 1) as count:
        count(alone, range(4), lambda block: None)
    ended: list[int] = []

    def end_one(block: int) -> None:
        if not ended:
            worker = active_children()[0]
            worker.kill()
            ended.append(block)

    with block_pool(path, 2) as count:
        count(path, range(4), end_one)
        assert ended and len(active_children()) == 1
        found = broken_by(path)
        assert set(np.concatenate(found).tolist()) == {-1, 0, 1}
        assert all(map(np.array_equal, broken_by(alone), found))
        clean, attacked = (next(m for m in path.cells() if bool(m.attack) == kind) for kind in (False, True))
        path.file(clean, 1).write_bytes(b"damaged")
        path.file(attacked, 1).unlink()
        with pytest.raises(ConfigError, match=r"block-00001-n10\.npz"):
            count(path, [1], lambda block: None)


@pytest.mark.cluster
def test_a_kill_of_all_changes_no_outcome(copy: Callable[[str], Path]) -> None:
    alone = copy("alone")
    assert main([str(alone), *BLOCKS, "launch.workers=1"]) == 0
    expected = broken_by(plan_evaluation([str(alone), *BLOCKS]))
    assert {-1, 0, 1} <= set(np.concatenate(expected).tolist())
    killed = copy("killed")
    with started(killed, workers=2) as process:
        wait_until(lambda: len(files(killed)) >= 6, "the first outcomes", process=process, every=0.01)
        workers = children(process.pid)
        assert len(workers) >= 2
        process.send_signal(signal.SIGKILL)
        process.wait()
        wait_until(lambda: not any(Path(f"/proc/{pid}/stat").exists() for pid in workers), "the end of its workers")
    before = files(killed)
    assert len(before) < len(expected), "killed too late to show anything"
    assert main([str(killed), *BLOCKS, "launch.workers=1"]) == 0
    # What was in a file is not done again: at most the one outcome that each worker was at.
    after = files(killed)
    assert {file: after[file] for file in before} == before
    assert len(after) == len(expected)
    assert all(map(np.array_equal, expected, broken_by(plan_evaluation([str(killed), *BLOCKS]))))


def test_the_same_command_again_only_prints(copy: Callable[[str], Path], capsys: pytest.CaptureFixture[str]) -> None:
    path = copy("again")
    words = [str(path), "attack=pgd", "eval.test_examples=20", *FEW, "launch.workers=1"]
    assert main(words) == 0
    first, stamps = capsys.readouterr().out, files(path)
    assert "PGD-2 Linf" in first
    assert main(words) == 0
    assert capsys.readouterr().out == first
    assert files(path) == stamps


def test_single_process_uses_cpus_per_worker_threads(copy: Callable[[str], Path]) -> None:
    made = plan_evaluation([str(copy("threads")), "attack=none", "eval.test_examples=10", "eval.batch_size=10"])
    seen: list[int] = []
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with block_pool(made, 1) as count:
            count(made, [0], lambda block: seen.append(torch.get_num_threads()))
        assert (seen, torch.get_num_threads()) == ([made.config.launch.cpus_per_worker], 3)
    finally:
        torch.set_num_threads(before)


def test_help_teaches_without_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    for word in ("autoattack", "apgd-ce", "square", "threat=adaptive", "noise=fixed", "eot_draws=10", "launch=ray"):
        assert word in text


@pytest.mark.ray
@pytest.mark.cluster
def test_workers_of_a_ray_cluster(copy: Callable[[str], Path]) -> None:
    words = ["attack=pgd", "eval.test_examples=30", *FEW]
    alone, path = copy("alone"), copy("ray")
    assert main([str(alone), *words, "launch.workers=1"]) == 0
    command = [sys.executable, "-m", "distcond.evaluate", str(path), *words, "launch=ray", "launch.workers=2"]
    done = run(command, env={**os.environ, "PYTHONPATH": os.getcwd()})
    assert done.status == 0, done.output
    assert "PGD-2 Linf" in done.output
    assert all(
        map(
            np.array_equal,
            broken_by(plan_evaluation([str(alone), *words])),
            broken_by(plan_evaluation([str(path), *words])),
        )
    )
