"""Which of several worker errors is reported, and as what."""

from __future__ import annotations

from pathlib import Path

import pytest

from distcond.errors import ConfigError
from distcond.runs.failures import LaunchFailed, WorkerError

pytestmark = pytest.mark.ray

LOST = WorkerError("lost_peer", "RuntimeError: [gloo] Connection closed by peer", 0, "/run/failures/a.txt")
FULL = WorkerError("transient", "OSError: No space left on device", 1, "/run/failures/b.txt")
WRONG = WorkerError("deterministic", "KeyError: 'x'", 1, "/run/failures/c.txt")
USER = WorkerError("config", "data.root=x: no such folder", 1)
AWAY = WorkerError("unreachable", "run_root: node 10.0.0.7 does not see the driver's /run", 1)
DIED = RuntimeError("The actor died.\n\tclass_name: X\nWorker exit detail: ... connection error code 2. End of file.")


def failed(*errors: Exception) -> Exception:
    from ray.train.v2.api.exceptions import WorkerGroupError

    return WorkerGroupError("what Ray says about it", dict(enumerate(errors)))


def test_cause_is_reported_instead_of_consequences() -> None:
    from distcond.launch.ray.errors import translate_ray_error

    logs = Path("/run/failures/ray-logs")
    lines = {
        "OSError: No space left on device (worker 1; traceback in /run/failures/b.txt)": translate_ray_error(
            failed(LOST, FULL)
        ),
        "KeyError: 'x' (worker 1, after 2 restarts; traceback in /run/failures/c.txt)": translate_ray_error(
            failed(LOST, WRONG), 2
        ),
        "worker 1 died without an exception: killed, out of memory, or crashed outside Python (Ray's logs in "
        "/run/failures/ray-logs)": translate_ray_error(failed(LOST, DIED), logs=logs),
        "a worker died without an exception, after 1 restart; worker 0 then raised RuntimeError: [gloo] Connection "
        "closed by peer (traceback in /run/failures/a.txt)": translate_ray_error(failed(LOST), 1),
    }
    for line, error in lines.items():
        assert isinstance(error, LaunchFailed) and str(error) == line


def test_user_error_stays_a_config_error() -> None:
    from distcond.launch.ray.errors import translate_ray_error

    error = translate_ray_error(failed(FULL, USER))
    assert isinstance(error, ConfigError) and str(error) == "data.root=x: no such folder"


def test_controller_errors_are_translated() -> None:
    from ray.train.v2.api.exceptions import ControllerError

    from distcond.launch.ray.errors import translate_ray_error

    line = "KeyError: 'x' (worker 1; traceback in /run/failures/c.txt)"
    assert str(translate_ray_error(ControllerError(WRONG))) == line
    assert str(translate_ray_error(ControllerError(TimeoutError("no room\nfor workers")))).endswith(
        "TimeoutError: no room"
    )
    assert str(translate_ray_error(RuntimeError("died\nTraceback\nImportError: x"))) == "Ray Train: ImportError: x"


def test_only_deterministic_errors_end_a_run() -> None:
    from distcond.launch.ray.errors import FailFastCallback

    stop = FailFastCallback()
    with pytest.raises(WorkerError, match="does not see"):
        stop.after_exception(None, {0: AWAY})
    stop.after_exception(None, {0: LOST, 1: FULL})
    stop.after_exception(None, {0: AWAY})  # the first workers have seen the directory
    stop.after_exception(None, {0: LOST, 1: DIED})
    with pytest.raises(WorkerError, match="KeyError"):
        stop.after_exception(None, {0: LOST, 1: WRONG})


def test_lost_directory_is_reported_first(tmp_path: Path) -> None:
    from distcond.launch.ray.trainer import explain_lost_directory
    from distcond.launch.ray.worker import shared_dir_probe

    refused, failed = ConfigError("run_root: node 10.0.0.7 does not see it"), LaunchFailed("IndexError: x (worker 0)")
    with shared_dir_probe(tmp_path / "run") as probe:
        assert explain_lost_directory(refused, tmp_path / "run", probe) is refused
    line = f"run_root: {tmp_path / 'run'} is not accessible any more; the same command resumes once it is"
    errors = [explain_lost_directory(error, tmp_path / "run", probe) for error in (refused, failed)]
    assert list(map(str, errors)) == [line, f"{line}; this caused: IndexError: x (worker 0)"]
    assert all(isinstance(error, LaunchFailed) for error in errors)
