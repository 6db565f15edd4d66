"""A run at a URI: killed at any moment, it resumes on an empty machine and is the same run."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from distcond.config.schema import Config
from distcond.distributed.world import World
from distcond.errors import ConfigError
from distcond.results import history
from distcond.runs import checkpoint, remote, uploader
from distcond.runs.remote import RemoteRun, remote_run_of
from distcond.runs.run_dir import RunDir, run_root
from distcond.storage import mirror
from distcond.storage.errors import StorageError
from distcond.storage.store import Store
from distcond.training.fit import fit
from support.groups import quick


class Killed(BaseException):
    """Simulates the end of a process."""


SHORT: dict[str, Any] = {"epochs": 2, "eval__train_examples": 0}


@pytest.fixture
def config_at_uri(small: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """A config with runs at a URI, without waits between retries and without figures at the end."""
    monkeypatch.setattr(uploader, "write_report", lambda path: [])
    return at_uri(small(**SHORT), tmp_path, monkeypatch)


def at_uri(config: Config, root: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """The config with its URI at `root/there` and its working directory at `root/here`."""
    monkeypatch.setattr(mirror, "PAUSES", (0.0, 0.0))
    monkeypatch.setattr(uploader, "PAUSES", (0.0, 0.0))
    monkeypatch.setattr(uploader, "AT_END", (0.0, 0.0))
    monkeypatch.setattr(remote, "INTERVAL", 600.0)
    # One data set for all tests, but a staging directory for each.
    monkeypatch.setattr("distcond.runs.run_dir.staging", lambda uri, cache: root / "here")
    return replace(config, run_root=f"file://{root}/there")


def start(config: Config) -> Path:
    """One start of the run, as by the driver."""
    run = RunDir(run_root(config) / "run")
    home = remote_run_of(config, run.path)
    assert home is not None
    home.pull()
    with run.begin(config) as attempt:
        fit(config, World(), run.path, attempt)
    home.push_final()
    return run.path


def killed_at(number: int, monkeypatch: pytest.MonkeyPatch, config: Config) -> list[str]:
    """Start the run and die instead of upload `number`; returns the names uploaded before."""
    put: list[str] = []
    original = Store._write

    def dies(self: Store, name: str, source: Any) -> None:
        if len(put) == number:
            raise Killed
        original(self, name, source)
        put.append(name)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "_write", dies)
        patch.setattr(remote.BackgroundSync, "start", lambda self: None)
        patch.setattr(remote.BackgroundSync, "close", lambda self: None)
        patch.setattr(RemoteRun, "push_final", lambda self: None)
        with suppress(Killed):
            start(config)
    return put


def clear_machine(config: Config) -> None:
    """Simulate another machine: delete the local files."""
    shutil.rmtree(run_root(config))


@pytest.fixture
def uninterrupted(small: Callable[..., Config], whole: Callable[[Config], Path]) -> Path:
    """A run in a local directory."""
    return whole(small(**SHORT))


@pytest.fixture(scope="module")
def uploads(small: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], Path]:
    """The names that a run uploads, in order, and its working directory."""
    root = tmp_path_factory.mktemp("uploads")
    with pytest.MonkeyPatch.context() as patch:
        config = at_uri(small(**SHORT), root, patch)
        return killed_at(10**6, patch, config), run_root(config) / "run"


def kill_points(put: list[str]) -> dict[str, int]:
    """Uploads to die at: between parts of a checkpoint, before its marker, at rows of an epoch, at the end."""
    marker = [number for number, name in enumerate(put) if name.endswith("complete.json")]
    parts = [number for number, name in enumerate(put) if name.endswith("rank-0000.pt")]
    return {
        "first": 0, "part": parts[0], "marker": marker[0], "rows": marker[0] + 2, "next part": parts[1] + 1,
        "next marker": marker[1], "end": put.index("finished.json"),
    }  # fmt: skip


@pytest.mark.parametrize(
    "name", quick("marker", of=["first", "part", "marker", "rows", "next part", "next marker", "end"])
)
def test_kill_at_any_upload_loses_nothing(
    config_at_uri: Config, uploads: Any, uninterrupted: Path, same_run: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    # Figures are uploaded last, before finished.json.
    undrawn = [put for put in uploads[0] if not put.startswith("results/") or put.endswith(".parquet")]
    number = kill_points(undrawn)[name]
    put = killed_at(number, monkeypatch, config_at_uri)
    assert len(put) == number
    clear_machine(config_at_uri)
    path = start(config_at_uri)
    same_run.assert_same_run(uninterrupted, path)
    assert RunDir(path).finished


def test_uri_does_not_change_the_run(uploads: Any, uninterrupted: Path, same_run: Any) -> None:
    same_run.assert_same_run(uninterrupted, uploads[1])


def test_rows_and_history_precede_the_checkpoint_marker(uploads: Any) -> None:
    put = uploads[0]
    first = put.index("checkpoints/epoch-0001/complete.json")
    before = put[:first]
    assert before.index("results/val-epoch-0001.parquet") < before.index("history.jsonl")
    assert before.index("history.jsonl") < before.index("checkpoints/epoch-0001/shared.pt")
    assert put[-1] == "finished.json"
    assert {"results/table.md", "results/curve.png"} <= set(put)
    assert not any(name.startswith("checkpoints/epoch-0002") for name in before)


def test_checkpoint_without_marker_does_not_exist(
    config_at_uri: Config, uploads: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed_at(uploads[0].index("checkpoints/epoch-0002/complete.json"), monkeypatch, config_at_uri)
    home = remote_run_of(config_at_uri, run_root(config_at_uri) / "run")
    assert home is not None
    assert "checkpoints/epoch-0002/shared.pt" in home.store.names()
    assert list(home.complete_checkpoints()) == ["checkpoints/epoch-0001"]
    clear_machine(config_at_uri)
    home.pull()
    found = checkpoint.latest(home.local / "checkpoints")
    assert found is not None
    assert found.name == "epoch-0001"


def test_unreachable_store_stops_no_epoch(
    config_at_uri: Config, uninterrupted: Path, same_run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, down = Store._write, [False]

    def away(self: Store, name: str, source: Any) -> None:
        down[0] |= name == "checkpoints/epoch-0001/complete.json"
        if down[0]:
            raise OSError("curlCode: 7, Couldn't connect to server")
        original(self, name, source)

    said = []
    with monkeypatch.context() as patch:
        patch.setattr(Store, "_write", away)
        note = uploader.RunUploader.note.fget  # type: ignore[attr-defined]
        patch.setattr(uploader.RunUploader, "note", property(lambda self: said.append(note(self)) or note(self)))
        with pytest.raises(StorageError, match=r"here/run.*not reachable"):
            start(config_at_uri)
    assert any("not reachable" in line and "training continues" in line for line in said)
    run = RunDir(run_root(config_at_uri) / "run")
    assert not run.finished
    assert len(history.read(run.path)) == 2
    same_run.assert_same_run(uninterrupted, run.path)  # all files are local
    home = remote_run_of(config_at_uri, run.path)
    assert home is not None
    assert home.complete_checkpoints() == {}
    start(config_at_uri)  # the store is reachable again
    assert {Path(folder).name for folder in home.complete_checkpoints()} == {
        entry.name for entry in run.checkpoints.glob("epoch-*")
    }
    clear_machine(config_at_uri)
    home.pull()
    assert run.finished


def test_newer_side_wins_when_synchronising(
    config_at_uri: Config,
    uploads: Any,
    same_run: Any,
    uninterrupted: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    killed_at(uploads[0].index("checkpoints/epoch-0001/complete.json") + 1, monkeypatch, config_at_uri)
    shutil.copytree(run_root(config_at_uri), tmp_path / "old")
    killed_at(10**6, monkeypatch, config_at_uri)  # resumes here, to the end
    clear_machine(config_at_uri)
    shutil.copytree(tmp_path / "old", run_root(config_at_uri))  # a machine with an older state
    path = start(config_at_uri)
    same_run.assert_same_run(uninterrupted, path) if list(path.glob("checkpoints/*/shared.pt")) else None
    assert RunDir(path).finished
    assert len(history.read(path)) == 2


def test_run_of_another_config_is_refused(config_at_uri: Config, small: Any, tmp_path: Path) -> None:
    home = remote_run_of(config_at_uri, run_root(config_at_uri) / "run")
    assert home is not None
    other = replace(config_at_uri, optim=replace(config_at_uri.optim, lr=0.5))
    with RunDir(home.local).begin(other):
        pass
    before = (home.local / "config.json").read_text()
    with (
        pytest.raises(ConfigError, match=r"optim\.lr=0\.5 there, 0\.1 here"),
        RunDir(home.local).begin(config_at_uri),
    ):
        pass
    assert (home.local / "config.json").read_text() == before
    with RunDir(home.local).begin(replace(other, save_every=2)):  # the same run
        pass


def fit_on(rank: int, world: int, config: Config, machines: list[str]) -> None:
    """One rank, in the directory of its machine."""
    path = Path(machines[rank])
    path.mkdir(parents=True, exist_ok=True)
    fit(config, World(rank, world), path)


@pytest.mark.parametrize("apart", [True, pytest.param(False, marks=pytest.mark.cluster)])
def test_ranks_on_several_machines_and_on_one(
    config_at_uri: Config, tmp_path: Path, run_ranks: Callable[..., list[Any]], same_run: Any, apart: bool
) -> None:
    first, second = tmp_path / "0" / "run", tmp_path / ("1" if apart else "0") / "run"
    machines, driver = [str(first), str(second)], remote_run_of(config_at_uri, first)
    assert driver is not None
    with RunDir(first).begin(config_at_uri):
        driver.publish_start()
        run_ranks(fit_on, 2, config_at_uri, machines)
    for machine in (first, second):  # each has the parts of all ranks
        assert len(list(machine.glob("checkpoints/epoch-0002/rank-*.pt"))) == 2
    shutil.copytree(first, tmp_path / "before")
    shutil.rmtree(first)  # that machine is replaced, and the run is not finished
    (tmp_path / "there" / "run" / "finished.json").unlink()
    run_ranks(fit_on, 2, config_at_uri, machines)
    same_run.assert_same_run(tmp_path / "before", first, ranks=2)
    assert RunDir(first).finished
