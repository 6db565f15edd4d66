"""What the real tools received, read back from them offline."""

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

pytestmark = pytest.mark.filterwarnings("ignore")  # warnings of the tools
POINTS = [{"lam": lam, "width": 1.0, "sa": 0.9, "ra": 0.25 + lam / 4} for lam in (0.0, 1.0)]


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait long for a tool to be imported, and read the history often."""
    monkeypatch.setattr(tracker_thread, "PATIENCE", LIMIT)
    monkeypatch.setattr(tracker_thread, "INTERVAL", 0.1)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    path = tmp_path / "a-run"
    path.mkdir()
    return path


@pytest.fixture
def make_config() -> Callable[[str], Config]:
    """`make_config(name)`: a config with this tracker; skips the test if the tool is not installed."""

    def config(name: str) -> Config:
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
        return resolve("float_digits", {"sinks": name, "launch": "local"})

    return config


def record_epoch(run: Path, epoch: int, loss: float | None = None) -> None:
    history.append(run, {"epoch": epoch, "train_loss": epoch / 2 if loss is None else loss, "val": POINTS})


def finish(run: Path, epochs: int) -> None:
    (run / "finished.json").write_text(json.dumps({"epochs": epochs, "points": POINTS}))


def run_three_starts(config: Config, run: Path) -> None:
    """Two epochs; then the second again and a third, which is sent but not recorded as sent; then the end."""
    with track_run(config, run):
        record_epoch(run, 1)
        record_epoch(run, 2)
    state = run / "sinks" / f"{config.sinks[0]}.json"
    before = state.read_text()
    with track_run(config, run):
        record_epoch(run, 2)
        record_epoch(run, 3)
    state.write_text(before)  # killed before it could write this
    with track_run(config, run):
        finish(run, 3)
    with track_run(config, run):
        pass


def test_tensorboard_resumes_without_duplicates(run: Path, make_config: Callable[[str], Config]) -> None:
    run_three_starts(make_config("tensorboard"), run)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found: Any = EventAccumulator(str(run / "tensorboard"))
    found.Reload()
    assert [(point.step, point.value) for point in found.Scalars("train/loss")] == [(1, 0.5), (2, 1.0), (3, 1.5)]
    assert [point.step for point in found.Scalars("val/ra at lam 1")] == [1, 2, 3]
    assert [(point.step, point.value) for point in found.Scalars("test/ra at lam 1")] == [(4, 0.5)]
    assert "attack.epsilon" in str(found.Tensors("settings/text_summary")[0])


@pytest.fixture(scope="module")
def mlflow_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One database for both tests of MLflow: creating one is 60 migrations, which take seconds."""
    return tmp_path_factory.mktemp("mlflow")


def test_mlflow_resumes_the_same_run(
    mlflow_dir: Path, make_config: Callable[[str], Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (run := mlflow_dir / "a-run").mkdir()
    run_three_starts(make_config("mlflow"), run)
    from mlflow import MlflowClient

    client: Any = MlflowClient(tracking_uri=f"sqlite:///{mlflow_dir / 'mlflow.db'}")
    (found,) = client.search_runs([client.get_experiment_by_name("distcond").experiment_id])
    losses = client.get_metric_history(found.info.run_id, "train/loss")
    assert sorted((point.step, point.value) for point in losses) == [(1, 0.5), (2, 1.0), (3, 1.5)]
    assert [p.step for p in client.get_metric_history(found.info.run_id, "test/sa at lam 0")] == [4]
    assert found.data.params["method.name"] == "float"
    assert (found.info.run_name, found.info.status) == ("a-run", "FINISHED")


def test_same_run_id_elsewhere_is_another_run(
    mlflow_dir: Path, tmp_path: Path, make_config: Callable[[str], Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"sqlite:///{mlflow_dir / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "of one name")
    config = make_config("mlflow")
    for root in ("one", "other", "one"):
        with RunDir(tmp_path / root / "a-run").begin(config), track_run(config, tmp_path / root / "a-run"):
            record_epoch(tmp_path / root / "a-run", 1)
    from mlflow import MlflowClient

    client: Any = MlflowClient(tracking_uri=uri)
    assert len(client.search_runs([client.get_experiment_by_name("of one name").experiment_id])) == 2


def test_wandb_has_every_epoch_once(
    run: Path, make_config: Callable[[str], Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    with track_run(config, run):
        record_epoch(run, 1)
        record_epoch(run, 2)
    second = int(time.time())
    wait_until(lambda: int(time.time()) > second, "the next second: W&B names folders by seconds")
    with track_run(config, run):
        record_epoch(run, 3)
        finish(run, 3)
    found = offline_history(run)
    assert [(int(at["_step"]), float(at["train/loss"])) for at in found if "train/loss" in at] == [
        (1, 0.5), (2, 1.0), (3, 1.5),
    ]  # fmt: skip
    assert len({folder.name.rsplit("-", 1)[1] for folder in (run / "wandb").glob("offline-run-*")}) == 1  # one run ID


def offline_history(run: Path) -> list[dict[str, str]]:
    """The history records in W&B's offline files, in order of starts."""
    import wandb
    from wandb.proto import wandb_internal_pb2

    wandb.teardown()  # waits until W&B's service process has written everything
    found = []
    for file in sorted(run.glob("wandb/offline-run-*/*.wandb")):
        for data in chunks(file.read_bytes()):
            record: Any = wandb_internal_pb2.Record.FromString(data)  # type: ignore[attr-defined]
            if record.WhichOneof("record_type") == "history":
                items = {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
                found.append({"_step": str(record.history.step.num), **items})
    return found


def chunks(content: bytes, block: int = 32768) -> Iterator[bytes]:
    """The records of a log in LevelDB's format, after a header of seven bytes."""
    at, held = 7, b""
    while at + 7 <= len(content):
        if block - at % block < 7:  # padding at the end of a block
            at += block - at % block
            continue
        length, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        held += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # full record, or its last part
            yield held
            held = b""


class Broken:
    """A tool that fails at the second epoch."""

    def write(self, epoch: int, numbers: object) -> None:
        if epoch > 1:
            raise OSError("the tool is\ngone")

    def close(self) -> None:
        """Nothing to close."""


def test_broken_tracker_is_one_log_line(
    run: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broken = Tracker("broken", "breaks", "json", "json", lambda info: Broken())
    monkeypatch.setattr(tracker_thread, "check_trackers", lambda names: [broken])
    with track_run(resolve("float_digits", {}), run):
        record_epoch(run, 1)
        record_epoch(run, 2)
    (line,) = caplog.messages
    assert "broken" in line and "OSError: the tool is" in line and "\n" not in line
    assert json.loads((run / "sinks" / "broken.json").read_text())["epoch"] == 1


def test_half_written_file_is_read_again(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    received, reads = [], []

    class Receiving(Broken):
        def write(self, epoch: int, numbers: object) -> None:
            received.append(epoch)

    original = tracker_thread.TrackerThread._read_new

    def read_new(self: tracker_thread.TrackerThread) -> Any:
        try:
            return original(self)
        finally:
            reads.append(1)

    monkeypatch.setattr(tracker_thread.TrackerThread, "_read_new", read_new)
    monkeypatch.setattr(
        tracker_thread,
        "check_trackers",
        lambda names: [Tracker("receiving", "", "json", "json", lambda info: Receiving())],
    )
    with track_run(resolve("float_digits", {}), run):
        (run / "finished.json").write_text("{")
        wait_until(lambda: reads, "a read", every=0.01)
        finish(run, 3)
    assert received == [4]


def test_hanging_tracker_does_not_block_the_run(
    run: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import threading

    never = threading.Event()
    stuck = Tracker("stuck", "hangs", "json", "json", lambda info: never.wait(LIMIT) or Broken())
    monkeypatch.setattr(tracker_thread, "check_trackers", lambda names: [stuck])
    monkeypatch.setattr(tracker_thread, "PATIENCE", 0.2)
    with track_run(resolve("float_digits", {}), run):
        record_epoch(run, 1)
    never.set()
    (line,) = caplog.messages
    assert "stuck" in line and "0.2 s" in line


def test_missing_tracker_is_refused_before_the_run() -> None:
    with pytest.raises(ConfigError, match=r"^sinks=none: no_such_package .*pip install none-there"):
        Tracker("none", "", "no_such_package", "none-there", lambda info: Broken()).check()
    with pytest.raises(ConfigError, match="tensorboard"):
        tracker_thread.check_trackers(("tensorbord",))


def test_metric_names_contain_the_width() -> None:
    several = [{**point, "width": width} for point in POINTS[:1] for width in (1.0, 0.5)]
    assert list(base.point_metrics("val", several)) == [
        "val/sa at lam 0 width 1", "val/ra at lam 0 width 1", "val/sa at lam 0 width 0.5", "val/ra at lam 0 width 0.5",
    ]  # fmt: skip
    shares = {"attack": 0.7, "passes": 0.3}
    assert base.epoch_metrics({"epoch": 1, "train_loss": None, "shares": shares, "stage": "x"}) == {
        "time/share attack": 0.7, "time/share passes": 0.3,
    }  # fmt: skip
