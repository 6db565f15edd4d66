"""Profiles: what is refused, and in which words."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.slurm.profile import FOLDER, from_plain, profile_of, to_plain
from distcond.errors import ConfigError

LOCAL = "one process of this machine; valid: nodes=1, tasks_per_node=1, gpus_per_node=0 or 1, mode=plain"
LOCAL_LIMIT = {"executor": "local", "signal_seconds": 120}
BAD = {
    "partitoin": ({"partitoin": "gpu"}, "unknown key 'partitoin': did you mean partition? valid: executor, "),
    "type": ({"nodes": "two"}, "profile x: nodes=two: expected a whole number"),
    "bound": ({"cpus_per_task": 0}, "profile x: cpus_per_task=0: must be at least 1"),
    "mode": ({"mode": "mpi"}, "unknown value for profile x: mode 'mpi': valid: plain, ray"),
    "short": ({"time_min": 3, "signal_seconds": 120}, "time_min=3: with signal_seconds=120"),
    "shortest": ({"time_min": 3, "signal_seconds": 120}, "valid: time_min=4 or more"),
    "local short": ({**LOCAL_LIMIT, "time_min": 1}, "time_min=1: with signal_seconds=120 no time is left for the run"),
    "local shortest": ({**LOCAL_LIMIT, "time_min": 2}, "valid: time_min=3 or more"),
    "local nodes": ({"executor": "local", "nodes": 2}, LOCAL),
    "local ray": ({"executor": "local", "mode": "ray"}, LOCAL),
    "local tasks": ({"executor": "local", "tasks_per_node": 2}, LOCAL),
    "local gpus": ({"executor": "local", "gpus_per_node": 2}, LOCAL),
    "local both": ({"executor": "local", "gpus_per_node": 2, "tasks_per_node": 2}, LOCAL),
    "ray": ({"mode": "ray", "tasks_per_node": 4}, "tasks_per_node=4 with mode=ray: Ray wants one; valid: 1"),
    "ray's end": ({"mode": "ray", "signal_seconds": 30}, "signal_seconds=30: too short to end a Ray in; valid: 60"),
    "gpus": ({"gpus_per_node": 4}, "valid: tasks_per_node=4"),
    "form": ({"container": {"form": "docker", "image": "i"}}, "unknown value for container.form 'docker': valid: ap"),
    "image": ({"container": {"form": "pyxis"}}, "container.image is missing"),
    "word": ({"container": {"form": "pyxis", "images": "i"}}, "unknown key 'container.images': did you mean"),
    "table": ({"environment": "A=1"}, "environment=A=1: needed: a table, [environment]"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_profile_is_one_line(case: str) -> None:
    told, said = BAD[case]
    with pytest.raises(ConfigError) as error:
        from_plain(told, "profile x")
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_an_unknown_profile_names_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"unknown profile 'gpus': did you mean gpu\? valid: apptainer, cpu, ddp, "):
        profile_of("gpus", {})


def test_a_file_that_is_no_toml(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("nodes = ")
    with pytest.raises(ConfigError, match=r"bad\.toml: cannot be read"):
        profile_of(str(tmp_path / "bad.toml"), {})


@pytest.mark.parametrize("name", [file.stem for file in FOLDER.glob("*.toml")])
def test_profile_round_trips_with_single_keys_changed(name: str) -> None:
    profile = profile_of(name, {"account": "mine"})
    assert profile.account == "mine"
    assert from_plain(to_plain(profile), "there") == profile
