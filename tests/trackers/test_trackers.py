"""The tools themselves are asked what they were given, offline."""

from __future__ import annotations

import importlib.util
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from distcond.config.overrides import resolve
from distcond.config.schema import Config
from distcond.errors import ConfigError
from distcond.results import history
from distcond.runs.run_dir import RunDir
from distcond.trackers import base, tracker_thread
from distcond.trackers.base import Tracker
from distcond.trackers.tracker_thread import track_run
from support.processes import LIMIT
from support.waiting import wait_until

pytestmark = pytest.mark.filterwarnings("ignore")  # what the tools warn of is not ours
POINTS = [{"lam": lam, "width": 1.0, "sa": 0.9, "ra": 0.25 + lam / 4} for lam in (0.0, 1.0)]


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tool may take long to be imported here; each look is close to the next."""
    monkeypatch.setattr(tracker_thread, "PATIENCE", LIMIT)
    monkeypatch.setattr(tracker_thread, "INTERVAL", 0.1)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    path = tmp_path / "a-run"
    path.mkdir()
    return path


@pytest.fixture
def sinks() -> Callable[[str], Config]:
    """`sinks(name)`: a config with one, or a skip."""

    def config(name: str) -> Config:
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
        return resolve("float_digits", {"sinks": name, "launch": "local"})

    return config


def trained(run: Path, epoch: int, loss: float | None = None) -> None:
    history.append(run, {"epoch": epoch, "train_loss": epoch / 2 if loss is None else loss, "val": POINTS})


def finished(run: Path, epochs: int) -> None:
    (run / "finished.json").write_text(json.dumps({"epochs": epochs, "points": POINTS}))


def three_starts(config: Config, run: Path) -> None:
    """Two epochs; then the second again and a third, whose hand-over was not written down; then the end."""
    with track_run(config, run):
        trained(run, 1)
        trained(run, 2)
    state = run / "sinks" / f"{config.sinks[0]}.json"
    before = state.read_text()
    with track_run(config, run):
        trained(run, 2)
        trained(run, 3)
    state.write_text(before)  # as after a kill between the two
    with track_run(config, run):
        finished(run, 3)
    with track_run(config, run):
        pass


def test_tensorboard_resumes_without_duplicates(run: Path, sinks: Callable[[str], Config]) -> None:
    three_starts(sinks("tensorboard"), run)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found: Any = EventAccumulator(str(run / "tensorboard"))
    found.Reload()
    assert [(point.step, point.value) for point in found.Scalars("train/loss")] == [(1, 0.5), (2, 1.0), (3, 1.5)]
    assert [point.step for point in found.Scalars("val/ra at lam 1")] == [1, 2, 3]
    assert [(point.step, point.value) for point in found.Scalars("test/ra at lam 1")] == [(4, 0.5)]
    assert "attack.epsilon" in str(found.Tensors("settings/text_summary")[0])


@pytest.fixture(scope="module")
def mlflow_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where both tests of MLflow have their runs and their database: making one is 60 migrations, and takes seconds."""
    return tmp_path_factory.mktemp("mlflow")


def test_mlflow_goes_on_with_the_same_run(
    mlflow_home: Path, sinks: Callable[[str], Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (run := mlflow_home / "a-run").mkdir()
    three_starts(sinks("mlflow"), run)
    from mlflow import MlflowClient

    client: Any = MlflowClient(tracking_uri=f"sqlite:///{mlflow_home / 'mlflow.db'}")
    (found,) = client.search_runs([client.get_experiment_by_name("distcond").experiment_id])
    losses = client.get_metric_history(found.info.run_id, "train/loss")
    assert sorted((point.step, point.value) for point in losses) == [(1, 0.5), (2, 1.0), (3, 1.5)]
    assert [p.step for p in client.get_metric_history(found.info.run_id, "test/sa at lam 0")] == [4]
    assert found.data.params["method.name"] == "float"
    assert (found.info.run_name, found.info.status) == ("a-run", "FINISHED")


def test_runs_of_one_name_in_two_places_differ(
    mlflow_home: Path, tmp_path: Path, sinks: Callable[[str], Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = f"sqlite:///{mlflow_home / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", place)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "of one name")
    config = sinks("mlflow")
    for root in ("one", "other", "one"):
        with RunDir(tmp_path / root / "a-run").begin(config), track_run(config, tmp_path / root / "a-run"):
            trained(tmp_path / root / "a-run", 1)
    from mlflow import MlflowClient

    client: Any = MlflowClient(tracking_uri=place)
    assert len(client.search_runs([client.get_experiment_by_name("of one name").experiment_id])) == 2


def test_wandb_keeps_every_epoch_once(
    run: Path, sinks: Callable[[str], Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = sinks("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    with track_run(config, run):
        trained(run, 1)
        trained(run, 2)
    second = int(time.time())
    wait_until(lambda: int(time.time()) > second, "another second, by which W&B names a start's folder")
    with track_run(config, run):
        trained(run, 3)
        finished(run, 3)
    found = offline_history(run)
    assert [(int(at["_step"]), float(at["train/loss"])) for at in found if "train/loss" in at] == [
        (1, 0.5), (2, 1.0), (3, 1.5),
    ]  # fmt: skip
    assert len({folder.name.rsplit("-", 1)[1] for folder in (run / "wandb").glob("offline-run-*")}) == 1  # one id


def offline_history(run: Path) -> list[dict[str, str]]:
    """The history records in W&B's offline files, in the order of the starts."""
    import wandb
    from wandb.proto import wandb_internal_pb2

    wandb.teardown()  # finish() only tells W&B's own process to; this waits for it, as does Python's end
    found = []
    for file in sorted(run.glob("wandb/offline-run-*/*.wandb")):
        for data in chunks(file.read_bytes()):
            record: Any = wandb_internal_pb2.Record.FromString(data)  # type: ignore[attr-defined]
            if record.WhichOneof("record_type") == "history":
                items = {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
                found.append({"_step": str(record.history.step.num), **items})
    return found


def chunks(content: bytes, block: int = 32768) -> Iterator[bytes]:
    """The records of a log in LevelDB's format, behind W&B's seven bytes."""
    at, held = 7, b""
    while at + 7 <= len(content):
        if block - at % block < 7:  # a block's end is filled up
            at += block - at % block
            continue
        length, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        held += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part of one
            yield held
            held = b""


class Broken:
    """A tool that takes one epoch."""

    def write(self, epoch: int, numbers: object) -> None:
        if epoch > 1:
            raise OSError("the tool is\ngone")

    def close(self) -> None:
        """Nothing is open."""


def test_broken_tracker_is_one_log_line(
    run: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broken = Tracker("broken", "breaks", "json", "json", lambda subject: Broken())
    monkeypatch.setattr(tracker_thread, "check_trackers", lambda names: [broken])
    with track_run(resolve("float_digits", {}), run):
        trained(run, 1)
        trained(run, 2)
    (line,) = caplog.messages
    assert "broken" in line and "OSError: the tool is" in line and "\n" not in line
    assert json.loads((run / "sinks" / "broken.json").read_text())["epoch"] == 1


def test_half_written_file_is_read_again(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken, looks = [], []

    class Taking(Broken):
        def write(self, epoch: int, numbers: object) -> None:
            taken.append(epoch)

    original = tracker_thread.TrackerThread._news

    def look(self: tracker_thread.TrackerThread) -> Any:
        try:
            return original(self)
        finally:
            looks.append(1)

    monkeypatch.setattr(tracker_thread.TrackerThread, "_news", look)
    monkeypatch.setattr(
        tracker_thread,
        "check_trackers",
        lambda names: [Tracker("taking", "", "json", "json", lambda subject: Taking())],
    )
    with track_run(resolve("float_digits", {}), run):
        (run / "finished.json").write_text("{")
        wait_until(lambda: looks, "a look", every=0.01)
        finished(run, 3)
    assert taken == [4]


def test_a_tool_that_hangs_is_left_behind(
    run: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import threading

    never = threading.Event()
    stuck = Tracker("stuck", "hangs", "json", "json", lambda subject: never.wait(LIMIT) or Broken())
    monkeypatch.setattr(tracker_thread, "check_trackers", lambda names: [stuck])
    monkeypatch.setattr(tracker_thread, "PATIENCE", 0.2)
    with track_run(resolve("float_digits", {}), run):
        trained(run, 1)
    never.set()
    (line,) = caplog.messages
    assert "stuck" in line and "0.2 s" in line


def test_missing_tracker_is_refused_before_the_run() -> None:
    with pytest.raises(ConfigError, match=r"^sinks=none: no_such_package .*pip install none-there"):
        Tracker("none", "", "no_such_package", "none-there", lambda subject: Broken()).check()
    with pytest.raises(ConfigError, match="tensorboard"):
        tracker_thread.check_trackers(("tensorbord",))


def test_names_tell_widths_apart() -> None:
    several = [{**point, "width": width} for point in POINTS[:1] for width in (1.0, 0.5)]
    assert list(base.point_metrics("val", several)) == [
        "val/sa at lam 0 width 1", "val/ra at lam 0 width 1", "val/sa at lam 0 width 0.5", "val/ra at lam 0 width 0.5",
    ]  # fmt: skip
    shares = {"attack": 0.7, "passes": 0.3}
    assert base.epoch_metrics({"epoch": 1, "train_loss": None, "shares": shares, "stage": "x"}) == {
        "time/share attack": 0.7, "time/share passes": 0.3,
    }  # fmt: skip
