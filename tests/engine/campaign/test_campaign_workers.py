"""Processes that share an evaluation: the same outcomes for any number of them, and after any of them was killed."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from distcond.engine.campaign import outcomes
from distcond.engine.campaign.plan import Plan
from distcond.evaluate import main, planned
from distcond.launch.block_pool import counting
from support.processes import Process, run, start
from support.waiting import wait_until

pytest.importorskip("pyautoattack", reason="it is an optional extra: pip install 'distcond[attacks]'")

WORDS = ["attack=autoattack", "eval.attack.num_steps=3", "eval.lam_grid=0,1", "eval.test_examples=50"]
BLOCKS = [*WORDS, "eval.batch_size=10"]


@pytest.fixture
def copy(trained: Path, tmp_path: Path) -> Callable[[str], Path]:
    """`copy(name)`: the trained run without outcomes."""
    return lambda name: Path(
        shutil.copytree(trained, tmp_path / name / "run", ignore=shutil.ignore_patterns("outcomes"))
    )


def broken_by(plan: Plan) -> list[np.ndarray]:
    return [
        outcomes.read(plan.file(measure, block), plan.members(block)).broken_by
        for measure in plan.measures()
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


def test_two_workers_agree_with_one(copy: Callable[[str], Path]) -> None:
    words = ["attack=fgsm", "eval.lam_grid=0,1", "eval.test_examples=40", "eval.batch_size=10", "eval.sentinel=off"]
    found = []
    for workers in (1, 2):
        path = copy(str(workers))
        assert main([str(path), *words, f"launch.workers={workers}"]) == 0
        found.append(broken_by(planned([str(path), *words])))
    assert set(np.concatenate(found[0]).tolist()) == {-1, 0, 1}
    assert all(map(np.array_equal, *found))


@pytest.mark.cluster
def test_workers_and_a_kill_do_not_change_outcomes(copy: Callable[[str], Path]) -> None:
    alone = copy("alone")
    assert main([str(alone), *BLOCKS, "launch.workers=1"]) == 0
    expected = broken_by(planned([str(alone), *BLOCKS]))
    assert {-1, 0, 1} <= set(np.concatenate(expected).tolist())
    three = copy("three")
    assert main([str(three), *BLOCKS, "launch.workers=3"]) == 0
    assert all(map(np.array_equal, expected, broken_by(planned([str(three), *BLOCKS]))))

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
    assert main([str(killed), *BLOCKS, "launch.workers=2"]) == 0
    # What was in a file is not done again: at most the one outcome that each worker was at.
    after = files(killed)
    assert {file: after[file] for file in before} == before
    assert len(after) == len(expected)
    assert all(map(np.array_equal, expected, broken_by(planned([str(killed), *BLOCKS]))))


@pytest.mark.cluster
def test_block_of_dead_worker_goes_to_another(copy: Callable[[str], Path]) -> None:
    path = copy("dies")
    with started(path, workers=2) as process:
        wait_until(lambda: len(files(path)) >= 2, "the first outcomes", process=process, every=0.01)
        found = children(process.pid)
        worker = next(pid for pid in found if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes())
        os.kill(worker, signal.SIGKILL)
        assert process.wait() == 0, process.output
    assert len(files(path)) == len(broken_by(planned([str(path), *BLOCKS])))


def test_config_error_of_a_worker_is_raised(copy: Callable[[str], Path], capfd: pytest.CaptureFixture[str]) -> None:
    from distcond.errors import ConfigError

    path = copy("bad")
    words = [str(path), "attack=fgsm", "eval.test_examples=20", "eval.batch_size=10"]
    assert main([*words, "launch.workers=1"]) == 0
    plan = planned(words)
    for measure in plan.measures():
        if measure.attack is None:
            plan.file(measure, 1).write_bytes(b"damaged")
        else:
            plan.file(measure, 1).unlink()
            plan.file(measure, 0).unlink()
    with pytest.raises(ConfigError, match=r"block-00001-n10\.npz"):
        main([*words, "launch.workers=2"])


def test_the_same_command_again_only_prints(copy: Callable[[str], Path], capsys: pytest.CaptureFixture[str]) -> None:
    path = copy("again")
    words = [str(path), "attack=pgd-best", "eval.test_examples=20", "eval.batch_size=10", "launch.workers=1"]
    assert main(words) == 0
    first, stamps = capsys.readouterr().out, files(path)
    assert "PGD-best-2 Linf" in first
    assert main(words) == 0
    assert capsys.readouterr().out == first
    assert files(path) == stamps


def test_single_process_uses_cpus_per_worker_threads(copy: Callable[[str], Path]) -> None:
    made = planned([str(copy("threads")), "attack=none", "eval.test_examples=10", "eval.batch_size=10"])
    seen: list[int] = []
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with counting(made, 1) as count:
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
    words = ["attack=pgd-best", "eval.test_examples=30", "eval.batch_size=10"]
    alone, path = copy("alone"), copy("ray")
    assert main([str(alone), *words, "launch.workers=1"]) == 0
    command = [sys.executable, "-m", "distcond.evaluate", str(path), *words, "launch=ray", "launch.workers=2"]
    done = run(command, env={**os.environ, "PYTHONPATH": os.getcwd()})
    assert done.status == 0, done.output
    assert "PGD-best-2 Linf" in done.output
    assert all(map(np.array_equal, broken_by(planned([str(alone), *words])), broken_by(planned([str(path), *words]))))
