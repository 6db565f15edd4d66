"""Profiles: what is refused, and that they round-trip."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.slurm.profile import PROFILES_FOLDER, load_profile, parse_profile, profile_to_dict
from distcond.errors import ConfigError

LOCAL = ("nodes=1", "tasks_per_node=1", "mode=plain")
LOCAL_LIMIT = {"executor": "local", "signal_seconds": 120}
BAD = {
    "partitoin": ({"partitoin": "gpu"}, ("'partitoin'", "partition", "executor")),
    "type": ({"nodes": "two"}, ("profile x: nodes=two: ",)),
    "bound": ({"cpus_per_task": 0}, ("profile x: cpus_per_task=0: ", "1")),
    "mode": ({"mode": "mpi"}, ("profile x: mode 'mpi'", "plain, ray")),
    "short": ({"time_min": 3, "signal_seconds": 120}, ("time_min=3: ", "signal_seconds=120", "time_min=4")),
    "local short": ({**LOCAL_LIMIT, "time_min": 1}, ("time_min=1: ", "signal_seconds=120")),
    "local shortest": ({**LOCAL_LIMIT, "time_min": 2}, ("time_min=3",)),
    "local nodes": ({"executor": "local", "nodes": 2}, LOCAL),
    "local ray": ({"executor": "local", "mode": "ray"}, LOCAL),
    "local tasks": ({"executor": "local", "tasks_per_node": 2}, LOCAL),
    "local gpus": ({"executor": "local", "gpus_per_node": 2}, LOCAL),
    "local both": ({"executor": "local", "gpus_per_node": 2, "tasks_per_node": 2}, LOCAL),
    "ray": ({"mode": "ray", "tasks_per_node": 4}, ("tasks_per_node=4 with mode=ray: ",)),
    "ray's end": ({"mode": "ray", "signal_seconds": 30}, ("signal_seconds=30: ", "60")),
    "gpus": ({"gpus_per_node": 4}, ("tasks_per_node=4",)),
    "form": ({"container": {"form": "docker", "image": "i"}}, ("container.form 'docker'", "apptainer")),
    "image": ({"container": {"form": "pyxis"}}, ("container.image",)),
    "key": ({"container": {"form": "pyxis", "images": "i"}}, ("'container.images'", "container.image")),
    "table": ({"environment": "A=1"}, ("environment=A=1: ", "[environment]")),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_profile_is_refused(case: str) -> None:
    values, parts = BAD[case]
    with pytest.raises(ConfigError) as error:
        parse_profile(values, "profile x")
    assert all(part in str(error.value) for part in parts)
    assert "\n" not in str(error.value)


def test_unknown_profile_lists_the_valid_ones() -> None:
    with pytest.raises(ConfigError, match=r"'gpus'.*gpu.*apptainer, cpu, ddp, "):
        load_profile("gpus", {})


def test_invalid_toml_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("nodes = ")
    with pytest.raises(ConfigError, match=r"bad\.toml: "):
        load_profile(str(tmp_path / "bad.toml"), {})


@pytest.mark.parametrize("name", [file.stem for file in PROFILES_FOLDER.glob("*.toml")])
def test_profile_round_trips_with_single_keys_changed(name: str) -> None:
    profile = load_profile(name, {"account": "mine"})
    assert profile.account == "mine"
    assert parse_profile(profile_to_dict(profile), "there") == profile
