"""Runs in which batch normalisation sees fewer than two images per path and worker are refused at the start."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from distcond import train
from distcond.config.overrides import resolve
from distcond.config.schema import Config
from distcond.distributed.world import World
from distcond.errors import ConfigError
from distcond.runs.run_dir import RunDir
from distcond.training.bn_batch_size import check_bn_batch_size
from distcond.training.build_trainer import build_trainer


def config(settings: str) -> Config:
    return resolve("float_digits", dict(word.split("=") for word in settings.split()))


@pytest.mark.parametrize(
    ("settings", "workers", "seen", "valid"),
    [
        (
            "batch_size=128",
            64,
            r"1 clean images per worker",
            "batch_size=256 or more, 32 workers or fewer, shared_statistics=true",
        ),
        ("batch_size=128", 33, r"1\.94 clean", "batch_size=132 or more, 32 workers"),
        ("batch_size=2", 1, r"1 clean", "batch_size=4 or more$"),
        ("sampler.share=0.01", 2, r"0.5 clean", "batch_size=[0-9]+ or more$"),  # 1 of 64
        ("sampler.share=0.98", 1, r"1 adversarial", "batch_size=1[0-9]{2} or more$"),
        ("batch_size=2 shared_statistics=true", 2, r"1 clean images over all", "batch_size=4 or more$"),
        ("batch_size=18 sampler=uniform_discrete", 2, r"1\.[45]\d* clean", "batch_size=2[0-9] or more, 1 worker"),
        ("method=oat batch_size=24", 4, r"1 clean", "batch_size=4[0-9] or more, 2 workers"),  # a sixth of a batch
        ("method=oats batch_size=24", 4, r"1 clean", "2 workers"),
        ("method=smart batch_size=128", 64, r"1 clean", "batch_size=256"),
        ("method=pgd_at", 50, r"1\.28 images", "batch_size=100 or more, 32 workers"),
        ("method=trades batch_size=1", 1, r"1 images", "batch_size=2 or more$"),
        ("method.threshold=0.5 sampler=uniform_discrete batch_size=18", 2, r"1\.[45]\d* adversarial", "1 worker"),
    ],
)
def test_too_few_rows_are_refused_with_numbers(settings: str, workers: int, seen: str, valid: str) -> None:
    with pytest.raises(ConfigError, match=f"batch_size=.* on {workers} worker") as refusal:
        check_bn_batch_size(config(settings), workers)
    message = str(refusal.value)
    assert "\n" not in message
    assert re.search(seen, message) and re.search(valid, message), message
    batch = re.search(r"valid: batch_size=(\d+)", message)
    assert batch is not None
    check_bn_batch_size(replace(config(settings), batch_size=int(batch[1])), workers)


@pytest.mark.parametrize(
    ("settings", "workers"),
    [
        ("batch_size=128", 32),
        ("", 1),
        ("shared_statistics=true", 64),
        ("sampler=fixed sampler.lam=1", 32),  # no clean row at all
        ("sampler=fixed sampler.lam=0", 32),
        ("method=oat sampler.choices=0.1,1", 32),
        ("batch_size=12 sampler=uniform_discrete", 1),  # two on average
        ("method=pgd_at", 32),
        ("method=standard batch_size=2", 1),
        ("method=oat", 5),
    ],
)
def test_two_rows_per_path_are_accepted(settings: str, workers: int) -> None:
    check_bn_batch_size(config(settings), workers)


def test_the_command_refuses_before_a_run_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torchrun = {"RANK": "0", "WORLD_SIZE": "64", "LOCAL_WORLD_SIZE": "8", "MASTER_ADDR": "x", "MASTER_PORT": "1"}
    for name, value in torchrun.items():
        monkeypatch.setenv(name, value)
    words = ["launch=local", "launch.device=cpu", f"run_root={tmp_path / 'runs'}", f"data.cache_dir={tmp_path}"]
    with pytest.raises(ConfigError, match="batch_size=64 on 64 workers"):
        train.main(words)
    assert not (tmp_path / "runs").exists()


def test_workers_added_by_a_cluster_are_counted(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="batch_size=64 on 64 workers"):
        build_trainer(config(f"data.cache_dir={tmp_path} data.loader=memory"), World(size=64), RunDir(tmp_path), 0)
