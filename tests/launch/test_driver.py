"""What is refused before anything starts, and runs without Ray."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from distcond import train
from distcond.config.overrides import resolve
from distcond.errors import ConfigError
from distcond.launch import driver
from distcond.launch.capacity import Capacity, number_of_workers, range_of_workers

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in torchrun nor beside a Ray cluster."""
    for name in ("RAY_ADDRESS", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def four(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first of torchrun's four processes."""
    for name, value in {"RANK": "0", "WORLD_SIZE": "4", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}.items():
        monkeypatch.setenv(name, value)


def check(**settings: Any) -> int:
    return driver.check(resolve("float_digits", {name.replace("__", "."): value for name, value in settings.items()}))


@pytest.mark.parametrize(
    ("cores", "gpus", "settings", "workers"),
    [
        (1, 0, {}, 1),
        (2, 0, {}, 2),
        (64, 0, {}, 2),
        (3, 0, {"launch.cpus_per_worker": 2}, 1),
        (8, 0, {"launch.workers": 8}, 8),
        (64, 4, {}, 4),
        (64, 4, {"launch.workers": 3}, 3),
        (64, 4, {"launch.device": "cpu"}, 2),
        (64, 4, {"launch.device": "cuda"}, 4),
    ],
)
def test_the_number_of_workers(cores: int, gpus: int, settings: dict[str, Any], workers: int) -> None:
    launch = resolve("float_digits", settings).launch
    assert number_of_workers(launch, Capacity(cores, gpus, "this machine")) == workers


@pytest.mark.parametrize(
    ("cores", "gpus", "settings", "message"),
    [
        (2, 0, {"launch.workers": 3}, r"launch.workers=3: this machine has 2 cores; valid: 1 to 2"),
        (1, 0, {"launch.workers": 3}, r"launch.workers=3: this machine has 1 core; valid: 1"),
        (
            8,
            0,
            {"launch.workers": 3, "launch.cpus_per_worker": 4},
            r"launch.workers=3: this machine has 8 cores; valid of launch.cpus_per_worker=4: 1 to 2",
        ),
        (2, 0, {"launch.cpus_per_worker": 3}, r"launch.cpus_per_worker=3: this machine has 2 cores"),
        (8, 2, {"launch.workers": 3}, r"launch.workers=3: this machine has 2 GPUs; valid: 1 to 2"),
        (2, 4, {}, r"launch.workers=4: this machine has 2 cores; valid: 1 to 2"),
        (2, 0, {"launch.device": "cuda"}, r"launch.device=cuda: this machine has no GPU .*; valid: auto, cpu"),
    ],
)
def test_too_much_is_refused(cores: int, gpus: int, settings: dict[str, Any], message: str) -> None:
    launch = resolve("float_digits", settings).launch
    with pytest.raises(ConfigError, match=f"^{message}$"):
        number_of_workers(launch, Capacity(cores, gpus, "this machine"))


@pytest.mark.parametrize(
    ("cores", "settings", "workers"),
    [
        (8, {"launch.workers": 4}, (4, 4)),
        (8, {"launch.workers": 4, "launch.min_workers": 2}, (2, 4)),
        (2, {"launch.workers": 4, "launch.min_workers": 2}, (2, 4)),  # grows when there is room
        (8, {"launch.min_workers": 1}, (1, 2)),
        (8, {"launch.min_workers": 3}, (3, 3)),
    ],
)
def test_the_range_of_workers(cores: int, settings: dict[str, Any], workers: tuple[int, int]) -> None:
    launch, there = resolve("float_digits", settings).launch, Capacity(cores, 0, "the Ray cluster")
    assert range_of_workers(launch, there, elastic=True) == workers


def test_min_workers_must_fit_and_need_a_cluster() -> None:
    launch = resolve("float_digits", {"launch.workers": 4, "launch.min_workers": 3}).launch
    assert range_of_workers(launch, Capacity(4, 0, "this machine"), elastic=False) == (4, 4)
    with pytest.raises(ConfigError, match=r"^launch.min_workers=3: the Ray cluster has 2 cores; valid: 1 to 2$"):
        range_of_workers(launch, Capacity(2, 0, "the Ray cluster"), elastic=True)


def test_contradicting_min_workers_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^launch.min_workers=1: launch=local does not change workers; valid: 0$"):
        check(launch="local", launch__min_workers=1)
    with pytest.raises(ConfigError, match=r"^launch.min_workers=3: more than launch.workers=2; valid: 0 to 2$"):
        check(launch__min_workers=3, launch__workers=2)


def test_more_workers_than_cores_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"^launch.workers=1000: this machine has \d+ (core|GPU)s?; valid: 1"):
        check(launch__workers=1000)


@pytest.mark.usefixtures("four")
def test_fewer_images_than_workers_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"^batch_size=3: .* 4 workers .*; valid: batch_size=4 or more, or "):
        check(launch="local", launch__device="cpu", batch_size=3)
    assert check(launch="local", launch__device="cpu", batch_size=16) == 4


@pytest.mark.parametrize("path", ["attack", "eval.attack"])
def test_lengths_of_another_unit_are_refused(path: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{path}.epsilon=8: pixels are in \[0, 1\]; did you mean 8/255\?$"):
        driver.check(resolve("float_digits", {f"{path}.epsilon": 8}))


STILL = {
    "attack__step_size": ("0", "1e-9", "1e-5"),
    "attack__num_steps": ("0",),
    "attack__epsilon": ("0", "1e-12"),
    "eval__attack__step_size": ("0", "1e-6"),
    "eval__attack__num_steps": ("0",),
    "eval__attack__epsilon": ("0",),
    "eval__val_steps": ("0",),
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in STILL.items() for value in values])
@pytest.mark.parametrize("start", ["true", "false"])
def test_attacks_that_move_nothing_are_refused(name: str, value: str, start: str) -> None:
    path = name.replace("__", ".")
    other = {f"{path.rpartition('.')[0]}.random_start": start} if "attack" in name else {}
    with pytest.raises(ConfigError, match=rf"^{re.escape(path)}=.*valid: ") as refusal:
        check(**{name: value}, **{key.replace(".", "__"): said for key, said in other.items()})
    assert "\n" not in str(refusal.value)


def test_training_without_attack_needs_none() -> None:
    still = {"attack__epsilon": "0", "attack__num_steps": "0", "launch__name": "local"}
    assert check(method="standard", **still) == 1
    assert check(method="pgd_at", sampler__lam="0", **still) == 1
    with pytest.raises(ConfigError, match=r"^attack\.epsilon=0: .*method=standard"):
        check(method="pgd_at", **still)
    with pytest.raises(ConfigError, match=r"^eval\.val_steps=0: "):
        check(method="standard", eval__val_steps="0", launch__name="local")


def test_local_workers_need_torchrun() -> None:
    assert check(launch="local") == check(launch="local", launch__workers=1) == 1
    torchrun = r"use torchrun --nproc-per-node=2 -m distcond.train launch=local"
    with pytest.raises(ConfigError, match=rf"^launch.workers=2 with launch=local: .*{torchrun}"):
        check(launch="local", launch__workers=2)


@pytest.mark.usefixtures("four")
def test_torchrun_and_the_workers_must_agree() -> None:
    assert check(launch="local", launch__device="cpu") == check(launch="local", launch__device="cpu", launch__workers=4)
    with pytest.raises(ConfigError, match=r"^launch.workers=2: torchrun started 4 processes; valid: 0, 4$"):
        check(launch="local", launch__device="cpu", launch__workers=2)


def test_ray_under_torchrun_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    with pytest.raises(ConfigError, match=r"^launch.name=ray under torchrun: .*; valid: local$"):
        check()


@pytest.mark.usefixtures("four")
def test_only_the_first_process_of_torchrun_leads(monkeypatch: pytest.MonkeyPatch) -> None:
    assert driver.leads()
    monkeypatch.setenv("RANK", "1")
    assert not driver.leads()


@pytest.mark.parametrize("launch", ["local", "ray"])
@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ("RANK=3", "RANK=3"),
        ("RANK=", "RANK=''"),
        ("WORLD_SIZE=", "WORLD_SIZE=''"),
        ("WORLD_SIZE=0", "WORLD_SIZE='0'"),
        ("LOCAL_RANK=", "LOCAL_RANK=''"),
        ("LOCAL_WORLD_SIZE=", "LOCAL_WORLD_SIZE=''"),
        ("RANK=-1", "RANK='-1'"),
        ("RANK=one", "RANK='one'"),
        ("WORLD_SIZE=4", "WORLD_SIZE=4"),
        ("RANK=1 WORLD_SIZE=4", "WORLD_SIZE=4"),
        ("RANK=4 WORLD_SIZE=4", "RANK=4"),
        ("RANK=1 WORLD_SIZE=4 MASTER_ADDR=127.0.0.1 MASTER_PORT=", "MASTER_PORT"),
        ("RANK=1 WORLD_SIZE=4 MASTER_ADDR=127.0.0.1 MASTER_PORT=http", "MASTER_PORT"),
        ("RANK=0 WORLD_SIZE=2 LOCAL_WORLD_SIZE=4 MASTER_ADDR=127.0.0.1 MASTER_PORT=1", "LOCAL_WORLD_SIZE=4"),
    ],
)
def test_left_over_variables_are_refused_and_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, launch: str, variables: str, named: str
) -> None:
    for name, value in (word.split("=") for word in variables.split()):
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=named) as refusal:
        train.main([f"launch={launch}", "launch.device=cpu"])
    assert "\n" not in str(refusal.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("four")
def test_ray_refuses_ranks_of_another_launcher() -> None:
    with pytest.raises(ConfigError, match=r"launch.name=ray with RANK=0 WORLD_SIZE=4"):
        check()


def test_a_local_run_needs_no_ray(place: Any) -> None:
    """It finishes where Ray cannot be imported, shows each epoch once, and says that RA is of another ball."""
    script = "import runpy, sys; sys.modules['ray'] = None; del sys.argv[0]; "
    script += "runpy.run_path(sys.argv[0], run_name='__main__')"
    words = [str(HERE / "launch_run.py"), str(place.path / "run"), f"data.cache_dir={place.path}", "launch=local"]
    command = [sys.executable, "-c", script, *words, "attack.epsilon=0.1"]
    done = subprocess.run(command, cwd=place.path, env=place.environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("epoch 1/2") == done.stderr.count("epoch 2/2") == 1
    assert done.stderr.count("trained under Linf eps=0.1, tested under Linf eps=0.2, which eval.attack.norm") == 1
    assert (place.path / "run" / "finished.json").exists()


def test_local_error_is_one_line_and_a_file(place: Any) -> None:
    run = place.start("launch=local", "method=faulty:METHOD", FAULT="raise", FAULT_STEP="1", FAULT_RANK="0")
    assert run.end() == 1
    assert "trained under" not in run.output
    file = run.path / "failures" / "attempt-00-worker-0000.txt"
    assert run.output.splitlines()[-1] == f"failed: ValueError: the fault of worker 0 (traceback in {file})"
    assert file.read_text().endswith("ValueError: the fault of worker 0\n")
