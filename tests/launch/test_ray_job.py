"""`ray job submit --working-dir . -- python -m distcond.train` on a cluster that others started."""

from __future__ import annotations

import secrets
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from distcond.engine.checkpoint import newest
from distcond.launch.attempt import last_attempt
from distcond.results import history

ROOT = Path(__file__).parents[2]

SETTINGS = (
    "epochs=1", "train_examples=128", "model.widths=4,8", "attack.num_steps=1", "data.loader=memory", "eval.every=0",
    "eval.lam_grid=0,1", "eval.val_examples=32", "eval.val_steps=1", "eval.test_examples=32", "eval.attack.num_steps=1",
)  # fmt: skip


@pytest.fixture
def submit(place: Any, wait_for: Callable[..., None]) -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
    """`submit("epochs=1")` runs the entry point as a job of a two-core cluster that demands a token."""
    token = place.short / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    locked = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), "HOME": str(place.path)}
    # A busy machine must not starve the workers, and the head need not wait for its nodes to drain.
    locked |= {"RAY_worker_niceness": "0", "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0"}
    locked |= {"RAY_JOB_STOP_WAIT_TIME_S": "100", "RAY_memory_monitor_refresh_ms": "0"}
    # What the cluster knows of distcond is only what a job brings along.
    environment = {name: value for name, value in place.environment.items() if name != "PYTHONPATH"} | locked
    dashboard, agent = _free_port(), _free_port()
    head = _ray(
        "start", "--head", "--block", f"--port={_free_port()}", f"--temp-dir={place.short / 'r'}", "--num-cpus=2",
        "--include-dashboard=true", f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={agent}",
        "--min-worker-port=0", "--max-worker-port=0", f"--object-store-memory={100 * 2**20}", "--disable-usage-stats",
    )  # fmt: skip
    with open(place.path / "head.log", "w") as log:
        cluster = subprocess.Popen(head, env=environment, cwd=place.path, stdout=log, stderr=log)
    ready = lambda: _answers(dashboard) and _answers(agent)  # noqa: E731  jobs are begun by the agent
    wait_for(lambda: ready() or cluster.poll() is not None, "the cluster")
    shutil.copytree(ROOT / "distcond", place.path / "code" / "distcond", ignore=shutil.ignore_patterns("__pycache__"))

    def run(*words: str, stop_when: Callable[[], bool] | None = None, **other: str) -> subprocess.CompletedProcess[str]:
        where, name = f"--address=http://127.0.0.1:{dashboard}", f"job-{secrets.token_hex(4)}"
        job = _ray("job", "submit", where, f"--submission-id={name}", "--working-dir=.", "--", sys.executable)
        job += ["-m", "distcond.train", f"data.cache_dir={place.path / 'cache'}", *SETTINGS, *words]
        pipe = subprocess.PIPE
        submitted = subprocess.Popen(
            job, env=environment | other, cwd=place.path / "code", stdout=pipe, stderr=pipe, text=True
        )
        if stop_when is not None:
            wait_for(lambda: stop_when() or submitted.poll() is not None, "the moment to stop")
            subprocess.run(_ray("job", "stop", where, name), env=environment, check=True, capture_output=True)
        printed = submitted.communicate(timeout=400)
        return subprocess.CompletedProcess(job, submitted.returncode, *printed)

    yield run
    cluster.send_signal(signal.SIGTERM)
    try:
        cluster.wait(timeout=60)
    finally:
        cluster.kill()
        cluster.wait()


@pytest.mark.ray
@pytest.mark.cluster
@pytest.mark.timeout(900)
def test_a_submitted_job_succeeds_and_fails_with_the_run(submit: Callable[..., Any], place: Any) -> None:
    done = submit()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "joining Ray ..." in done.stdout and "epoch 1/1" in done.stdout
    assert "succeeded" in done.stdout
    run = next((place.path / "distcond" / "runs").iterdir())
    assert (run / "finished.json").exists()
    failed = submit("launch.workers=3", "seed=1")
    assert failed.returncode == 1
    assert "launch.workers=3: the Ray cluster has 2 cores; valid: 1 to 2" in failed.stdout + failed.stderr
    assert "failed with exit code 2" in failed.stdout + failed.stderr
    stranger = submit("seed=3", RAY_AUTH_TOKEN_PATH=_another_token(place))
    assert stranger.returncode == 1
    assert "authentication is enabled" in stranger.stdout + stranger.stderr
    assert not list(run.parent.glob("*-s3-*")), "the stranger's job was not run"
    _is_stopped_with_a_checkpoint_and_resumed(submit, run.parent)


def _is_stopped_with_a_checkpoint_and_resumed(submit: Callable[..., Any], runs: Path) -> None:
    settings = ("epochs=300", "seed=2", "save_every=1000", "save_minutes=0")

    def trains() -> bool:
        return any(len(history.read(path)) > 1 for path in runs.glob("*-s2-*"))

    stopped = submit(*settings, stop_when=trains)
    [run] = runs.glob("*-s2-*")
    assert "stopped: checkpoint " in stopped.stdout, stopped.stdout
    assert newest(run / "checkpoints") is not None
    before = last_attempt(run) or 0
    resumed = submit(*settings, stop_when=lambda: (last_attempt(run) or 0) > before and len(history.read(run)) > 2)
    assert "stopped: checkpoint " in resumed.stdout, resumed.stdout
    epochs = [record["epoch"] for record in history.read(run)]
    assert epochs == list(range(1, len(epochs) + 1))


def _another_token(place: Any) -> str:
    path = place.short / "another"
    path.touch(mode=0o600)
    path.write_text(secrets.token_hex(32))
    return str(path)


def _ray(*words: str) -> list[str]:
    return [sys.executable, "-m", "ray.scripts.scripts", *words]


def _free_port() -> int:
    """One above the ports that Ray gives to workers (10002 to 19999)."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port > 20000:
            return port


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
