"""What the driver refuses before anything starts, and local runs."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from distcond import train
from distcond.config.overrides import resolve
from distcond.errors import ConfigError
from distcond.launch import driver
from distcond.launch.capacity import Capacity, choose_num_workers, choose_worker_range
from support import launch_run, processes

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither torchrun nor a Ray cluster in the environment."""
    for name in ("RAY_ADDRESS", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def torchrun_of_four(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of rank 0 of four torchrun processes."""
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
def test_default_number_of_workers(cores: int, gpus: int, settings: dict[str, Any], workers: int) -> None:
    launch = resolve("float_digits", settings).launch
    assert choose_num_workers(launch, Capacity(cores, gpus, "this machine")) == workers


@pytest.mark.parametrize(
    ("cores", "gpus", "settings", "setting", "valid"),
    [
        (2, 0, {"launch.workers": 3}, "launch.workers=3", ": 1 to 2"),
        (1, 0, {"launch.workers": 3}, "launch.workers=3", ": 1"),
        (8, 0, {"launch.workers": 3, "launch.cpus_per_worker": 4}, "launch.workers=3", ": 1 to 2"),
        (2, 0, {"launch.cpus_per_worker": 3}, "launch.cpus_per_worker=3", "2 cores"),
        (8, 2, {"launch.workers": 3}, "launch.workers=3", ": 1 to 2"),
        (2, 4, {}, "launch.workers=4", ": 1 to 2"),
        (2, 0, {"launch.device": "cuda"}, "launch.device=cuda", ": auto, cpu"),
    ],
)
def test_requests_above_capacity_are_refused(
    cores: int, gpus: int, settings: dict[str, Any], setting: str, valid: str
) -> None:
    launch = resolve("float_digits", settings).launch
    with pytest.raises(ConfigError, match=rf"^{setting}: .*this machine.*{valid}$"):
        choose_num_workers(launch, Capacity(cores, gpus, "this machine"))


@pytest.mark.parametrize(
    ("cores", "settings", "workers"),
    [
        (8, {"launch.workers": 4}, (4, 4)),
        (8, {"launch.workers": 4, "launch.min_workers": 2}, (2, 4)),
        (2, {"launch.workers": 4, "launch.min_workers": 2}, (2, 4)),  # grows once the cluster does
        (8, {"launch.min_workers": 1}, (1, 2)),
        (8, {"launch.min_workers": 3}, (3, 3)),
    ],
)
def test_worker_range_of_elastic_runs(cores: int, settings: dict[str, Any], workers: tuple[int, int]) -> None:
    launch, capacity = resolve("float_digits", settings).launch, Capacity(cores, 0, "the Ray cluster")
    assert choose_worker_range(launch, capacity, elastic=True) == workers


def test_min_workers_must_fit_and_need_a_cluster() -> None:
    launch = resolve("float_digits", {"launch.workers": 4, "launch.min_workers": 3}).launch
    assert choose_worker_range(launch, Capacity(4, 0, "this machine"), elastic=False) == (4, 4)
    with pytest.raises(ConfigError, match=r"^launch.min_workers=3: .*valid: 1 to 2$"):
        choose_worker_range(launch, Capacity(2, 0, "the Ray cluster"), elastic=True)


def test_contradicting_min_workers_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^launch.min_workers=1: .*launch=local.*valid: 0$"):
        check(launch="local", launch__min_workers=1)
    with pytest.raises(ConfigError, match=r"^launch.min_workers=3: .*launch.workers=2; valid: 0 to 2$"):
        check(launch__min_workers=3, launch__workers=2)


def test_more_workers_than_cores_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"^launch.workers=1000: .*valid: 1"):
        check(launch__workers=1000)


@pytest.mark.usefixtures("torchrun_of_four")
def test_fewer_images_than_workers_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"^batch_size=3: .*4 workers.*valid: batch_size=4"):
        check(launch="local", launch__device="cpu", batch_size=3)
    assert check(launch="local", launch__device="cpu", batch_size=16) == 4


def test_more_shares_than_images_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"^optim.accumulate=17: .*batch_size=16 .*valid: 1 to 16$"):
        check(launch="local", launch__device="cpu", batch_size=16, optim__accumulate=17)
    with pytest.raises(ConfigError, match=r"^batch_size=16 on 1 worker with optim.accumulate=16: .*a smaller"):
        check(launch="local", launch__device="cpu", batch_size=16, optim__accumulate=16)
    assert check(launch="local", launch__device="cpu", batch_size=16, optim__accumulate=4) == 1


@pytest.mark.parametrize("path", ["attack", "eval.attack"])
def test_epsilon_in_pixel_units_is_refused(path: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{path}.epsilon=8: .*8/255"):
        driver.check(resolve("float_digits", {f"{path}.epsilon": 8}))


IDLE_ATTACKS = {
    "attack__step_size": ("0", "1e-9", "1e-5"),
    "attack__num_steps": ("0",),
    "attack__epsilon": ("0", "1e-12"),
    "eval__attack__step_size": ("0", "1e-6"),
    "eval__attack__num_steps": ("0",),
    "eval__attack__epsilon": ("0",),
    "eval__val_steps": ("0",),
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in IDLE_ATTACKS for value in IDLE_ATTACKS[name]])
@pytest.mark.parametrize("start", ["true", "false"])
def test_attacks_that_move_nothing_are_refused(name: str, value: str, start: str) -> None:
    path = name.replace("__", ".")
    other = {f"{path.rpartition('.')[0]}.random_start": start} if "attack" in name else {}
    with pytest.raises(ConfigError, match=rf"^{re.escape(path)}=.*valid: ") as refusal:
        check(**{name: value}, **{key.replace(".", "__"): text for key, text in other.items()})
    assert "\n" not in str(refusal.value)


def test_training_without_attack_needs_none() -> None:
    idle = {"attack__epsilon": "0", "attack__num_steps": "0", "launch__name": "local"}
    assert check(method="standard", **idle) == 1
    assert check(method="pgd_at", sampler__lam="0", **idle) == 1
    with pytest.raises(ConfigError, match=r"^attack\.epsilon=0: .*method=standard"):
        check(method="pgd_at", **idle)
    with pytest.raises(ConfigError, match=r"^eval\.val_steps=0: "):
        check(method="standard", eval__val_steps="0", launch__name="local")


def test_local_workers_need_torchrun() -> None:
    assert check(launch="local") == check(launch="local", launch__workers=1) == 1
    with pytest.raises(ConfigError, match=r"^launch.workers=2 .*torchrun --nproc-per-node=2 .*launch=local"):
        check(launch="local", launch__workers=2)


@pytest.mark.usefixtures("torchrun_of_four")
def test_workers_setting_must_match_torchrun() -> None:
    assert check(launch="local", launch__device="cpu") == check(launch="local", launch__device="cpu", launch__workers=4)
    with pytest.raises(ConfigError, match=r"^launch.workers=2: .*4 processes; valid: 0, 4$"):
        check(launch="local", launch__device="cpu", launch__workers=2)


def test_ray_under_torchrun_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    with pytest.raises(ConfigError, match=r"^launch.name=ray .*torchrun.*valid: local$"):
        check()


@pytest.mark.usefixtures("torchrun_of_four")
def test_only_rank_0_is_the_main_process(monkeypatch: pytest.MonkeyPatch) -> None:
    assert driver.is_main_process()
    monkeypatch.setenv("RANK", "1")
    assert not driver.is_main_process()


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
def test_stale_rank_variables_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, launch: str, variables: str, named: str
) -> None:
    for name, value in (word.split("=") for word in variables.split()):
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=named) as refusal:
        train.main([f"launch={launch}", "launch.device=cpu"])
    assert "\n" not in str(refusal.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("torchrun_of_four")
def test_ray_refuses_ranks_of_another_launcher() -> None:
    with pytest.raises(ConfigError, match=r"launch.name=ray with RANK=0 WORLD_SIZE=4"):
        check()


def test_local_run_needs_no_ray(place: Any) -> None:
    """It finishes without Ray, shows each epoch once, and warns of different threat models."""
    script = "import runpy, sys; sys.modules['ray'] = None; del sys.argv[0]; "
    script += "runpy.run_path(sys.argv[0], run_name='__main__')"
    words = place.words("launch=local", "attack.epsilon=0.1", "train_examples=64")
    command = [sys.executable, "-c", script, launch_run.__file__, *words]
    done = processes.run(command, cwd=place.path, env=place.environment)
    assert done.status == 0, done.output
    assert done.output.count("epoch 1/2") == done.output.count("epoch 2/2") == 1
    (warning,) = (line for line in done.output.splitlines() if line.startswith("different threat models"))
    assert "eps=0.1," in warning and "eps=0.25;" in warning and "eval.attack.epsilon" in warning
    assert (place.path / "run" / "finished.json").exists()


def test_local_error_is_one_line_and_a_file(
    place: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.syspath_prepend(HERE)
    for name, value in {"FAULT": "raise", "FAULT_STEP": "1", "FAULT_RANK": "0", "FAULT_ONCE": "fault"}.items():
        monkeypatch.setenv(name, str(place.path / value) if name == "FAULT_ONCE" else value)
    run, *settings = place.words("launch=local", "method=faulty:METHOD")
    assert launch_run.main(Path(run), settings) == 1
    assert "different threat models" not in caplog.text
    file = Path(run) / "failures" / "attempt-00-worker-0000.txt"
    last = capfd.readouterr().err.splitlines()[-1]
    assert last.startswith("failed: ValueError: the fault of worker 0 (") and str(file) in last
    assert file.read_text().endswith("ValueError: the fault of worker 0\n")
