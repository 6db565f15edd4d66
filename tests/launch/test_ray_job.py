"""`ray job submit --working-dir . -- python -m distcond.train` on an existing cluster."""

from __future__ import annotations

import secrets
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from distcond.errors import ConfigError
from distcond.launch.ray.address import require_answer
from distcond.launch.ray.local_auth import reload_ray_auth
from distcond.results import history
from distcond.runs.checkpoint import latest
from support.processes import LIMIT, Finished, run, start
from support.ray_cluster import Ray, ray_of_one_node
from support.waiting import wait_until

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]

SETTINGS = (
    "launch.workers=1", "epochs=1", "train_examples=128", "model.widths=4,8", "attack.num_steps=1",
    "data.loader=memory", "eval.every=0", "eval.lam_grid=0,1", "eval.val_examples=32", "eval.val_steps=1",
    "eval.test_examples=32", "eval.attack.num_steps=1",
)  # fmt: skip


@dataclass
class Jobs:
    """A cluster that requires a token, and the code that its jobs ship: distcond is not installed on the cluster.

    Attributes:
        runs: the run directories of its jobs.
    """

    ray: Ray
    folder: Path
    environment: dict[str, str]

    @property
    def runs(self) -> Path:
        return self.folder / "distcond" / "runs"

    def submit(self, *settings: str, stop_when: Callable[[], Any] | None = None, **variables: str) -> Finished:
        """Run the entry point as a job. `ray job stop` stops it once `stop_when` is true."""
        address, name = f"--address=http://127.0.0.1:{self.ray.dashboard}", f"job-{secrets.token_hex(4)}"
        job = _ray("job", "submit", address, f"--submission-id={name}", "--working-dir=.", "--", sys.executable)
        job += ["-m", "distcond.train", f"data.cache_dir={self.folder / 'cache'}", *SETTINGS, *settings]
        with start(job, cwd=self.folder / "code", env=self.environment | variables, limit=2 * LIMIT) as submitted:
            if stop_when is not None:
                wait_until(stop_when, "the moment to stop", process=submitted)
                stopped = run(_ray("job", "stop", address, name), env=self.environment)
                assert stopped.status == 0, stopped.output
            return Finished(submitted.wait(), submitted.output)


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory, placed: Any) -> Iterator[Jobs]:
    folder = tmp_path_factory.mktemp("jobs")
    shutil.copytree(ROOT / "distcond", folder / "code" / "distcond", ignore=shutil.ignore_patterns("__pycache__"))
    own = {"HOME": str(folder), "RAY_JOB_STOP_WAIT_TIME_S": "100"}
    with placed(folder) as place, ray_of_one_node(dashboard=True, **own) as ray:
        # The agent, which starts jobs, comes up some time after the cluster.
        wait_until(lambda: _answers(*ray.agent), "the agent of the cluster")
        kept = {name: value for name, value in place.environment.items() if name != "PYTHONPATH"}
        joining = {name: value for name, value in ray.joining.items() if name != "RAY_ADDRESS"}
        yield Jobs(ray, folder, kept | own | joining)


def test_submitted_job_trains(jobs: Jobs) -> None:
    done = jobs.submit()
    assert done.status == 0, done.output
    assert "joining Ray ..." in done.output and "epoch 1/1" in done.output
    (finished,) = (path for path in jobs.runs.iterdir() if path.is_dir() and not path.name.startswith("."))
    assert (finished / "finished.json").exists()


def test_only_the_right_token_is_accepted(jobs: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "token"
    other.touch(mode=0o600)
    other.write_text(secrets.token_hex(32))
    try:
        _use_auth(monkeypatch, **jobs.ray.joining)
        require_answer(jobs.ray.address)
        _use_auth(monkeypatch, RAY_AUTH_TOKEN_PATH=str(other))
        with pytest.raises(ConfigError, match=r"RAY_ADDRESS=.*requires a token and rejects this one"):
            require_answer(jobs.ray.address)
    finally:
        monkeypatch.undo()
        _use_auth(monkeypatch)


@pytest.mark.cluster
def test_job_fails_with_its_run(jobs: Jobs) -> None:
    failed = jobs.submit("launch.workers=3", "seed=1")
    assert failed.status == 1
    assert "launch.workers=3: " in failed.output and "valid: 1 to 2" in failed.output
    assert "failed with exit code 2" in failed.output


@pytest.mark.cluster
def test_job_without_the_token_is_refused(jobs: Jobs) -> None:
    token = jobs.folder / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    refused = jobs.submit("seed=3", RAY_AUTH_TOKEN_PATH=str(token))
    assert refused.status == 1
    assert "authentication is enabled" in refused.output
    assert not list(jobs.runs.glob("*-s3-*")), "the refused job ran"


@pytest.mark.cluster
def test_stopped_job_saves_a_checkpoint(jobs: Jobs) -> None:
    found = lambda: next(jobs.runs.glob("*-s2-*"), Path("none"))  # noqa: E731
    settings = ("epochs=3000", "seed=2", "save_every=10000", "save_minutes=0")
    stopped = jobs.submit(*settings, stop_when=lambda: len(history.read(found())) > 1)
    assert "stopped: checkpoint " in stopped.output, stopped.output
    assert latest(found() / "checkpoints") is not None


def _use_auth(patch: pytest.MonkeyPatch, **variables: str) -> None:
    """Set authentication variables and make Ray read them."""
    for name, value in variables.items():
        patch.setenv(name, value)
    reload_ray_auth()
    require_answer.cache_clear()


def _ray(*words: str) -> list[str]:
    return [sys.executable, "-m", "ray.scripts.scripts", *words]


def _answers(host: str, port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) == 0
