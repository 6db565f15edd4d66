"""Threads: how they wait, as many as the process may use, one for a small network."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch

from distcond.config.overrides import resolve
from distcond.launch.capacity import Capacity, _cgroup_cores
from distcond.launch.threads import choose_num_threads, num_threads
from support.processes import run

MACHINE = Capacity(4, 0, "this machine")
WIDE = {"model": "resnet18", "data": "cifar10"}
LARGE_BATCH = {"batch_size": 900}


@pytest.mark.parametrize(
    ("settings", "available", "expected"),
    [({}, 8, 1), (WIDE, 8, 4), (WIDE, 3, 3), (WIDE, 1, 1), ({**WIDE, "batch_size": 1}, 8, 4), (LARGE_BATCH, 8, 4)],
)
def test_large_networks_use_the_cores(settings: dict[str, object], available: int, expected: int) -> None:
    with num_threads(available):  # what OMP_NUM_THREADS allows
        assert choose_num_threads(resolve("float_digits", settings), MACHINE) == expected


def test_the_number_of_threads_is_restored() -> None:
    before = torch.get_num_threads()
    seen = []

    def fail() -> None:
        with num_threads(before + 2):
            seen.append(torch.get_num_threads())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert seen == [before + 2]
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(("variables", "expected"), [({}, "passive"), ({"OMP_WAIT_POLICY": "active"}, "active")])
def test_threads_wait_passively_unless_set(variables: dict[str, str], expected: str) -> None:
    # Set in Python alone it would come too late for torch; so it must be there before torch is.
    code = "import sys, os, distcond; print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"
    kept = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    assert run([sys.executable, "-c", code], env={**kept, **variables}).output.split() == [expected, "False"]


@pytest.mark.parametrize(
    ("own", "quotas", "cores"),
    [
        ("0::/job/step", {"job/step": "max", "job": "300000", "": "max"}, 3),
        ("0::/job/step", {"job/step": "150000", "job": "300000"}, 1),
        ("0::/job", {"job": "400000", "": "200000"}, 2),
        ("0::/", {"": "50000"}, 1),
        ("4:cpu,cpuacct:/job", {"cpu,cpuacct/job": "200000"}, 2),
        ("1:cpu:/", {"cpu": "-1"}, 1 << 20),
        ("", {"cpu": "200000"}, 2),
        ("0::/../elsewhere", {}, 1 << 20),
    ],
)
def test_cores_are_limited_by_every_quota_above(tmp_path: Path, own: str, quotas: dict[str, str], cores: int) -> None:
    root = tmp_path / "cgroup"
    for name, quota in quotas.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        if name.startswith("cpu"):
            (root / name / "cpu.cfs_quota_us").write_text(quota)
            (root / name / "cpu.cfs_period_us").write_text("100000")
        else:
            (root / name / "cpu.max").write_text(f"{quota} 100000\n")
    (tmp_path / "own").write_text(f"12:memory:/elsewhere\n{own}\n")
    assert _cgroup_cores(root, tmp_path / "own") == cores
