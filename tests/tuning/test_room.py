"""How many trials fit, and where a trial's run lies."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from distcond.config.schema import LaunchConfig
from distcond.errors import ConfigError
from distcond.launch.capacity import Capacity
from distcond.train import resolve_run
from distcond.tuning.ray_backend.room import room
from distcond.tuning.ray_backend.sweep import placed
from distcond.tuning.space import find_space

NODE = {"CPU": 8.0, "GPU": 2.0}


def test_as_many_trials_as_their_workers_have_room() -> None:
    two = Capacity(16, 4, "the Ray cluster")
    assert room(LaunchConfig(device="cpu"), two, [NODE, NODE], 0) == 16
    assert room(LaunchConfig(device="cpu", workers=3), two, [NODE, NODE], 0) == 5
    assert room(LaunchConfig(), two, [NODE, NODE], 0) == 4
    assert room(LaunchConfig(workers=4), two, [NODE, NODE], 0) == 1
    assert room(LaunchConfig(workers=2), two, [NODE, NODE], 1) == 1


def test_no_worker_spans_two_machines() -> None:
    launch = LaunchConfig(device="cpu", cpus_per_worker=5)
    assert room(launch, Capacity(16, 0, "the Ray cluster"), [NODE, NODE], 0) == 2
    with pytest.raises(ConfigError, match=r"hold 2 workers of launch.cpus_per_worker=5, none of which may span"):
        room(replace(launch, workers=3), Capacity(16, 0, "the Ray cluster"), [NODE, NODE], 0)


@pytest.mark.parametrize(
    ("launch", "concurrent", "said"),
    [
        (LaunchConfig(device="cpu", workers=20), 0, r"launch.workers=20: the Ray cluster has 16 cores"),
        (LaunchConfig(workers=5), 0, r"launch.workers=5: the Ray cluster has 4 GPUs"),
        (LaunchConfig(cpus_per_worker=9, device="cpu"), 0, r"hold 0 workers of launch.cpus_per_worker=9"),
        (LaunchConfig(workers=2), 3, r"concurrent=3: the Ray cluster has room for 2 trials of 2 workers"),
    ],
)
def test_what_never_fits_is_refused_in_a_line(launch: LaunchConfig, concurrent: int, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as error:
        room(launch, Capacity(16, 4, "the Ray cluster"), [NODE, NODE], concurrent)
    assert "\n" not in str(error.value)


def test_trial_is_the_run_of_train(tmp_path: Path) -> None:
    settings = {"method.alpha": 0.3, "run_root": str(tmp_path), "data.cache_dir": str(tmp_path / "cache")}
    config = find_space("noise_scale", small=True).config(settings)
    assert placed(config) == resolve_run(config, None).path
