"""Mirror: what is pushed, pulled and retried."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from distcond.run_layout import COMPLETE_FILE
from distcond.storage import mirror
from distcond.storage.errors import StorageError
from distcond.storage.mirror import Mirror, retry
from distcond.storage.store import Store
from distcond.storage.uri import open_store, staging


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(f"file://{tmp_path}/remote")


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A directory with a few files."""
    for name in ("a.json", "b/c", ".hidden/d", "b/.e"):
        file = tmp_path / "here" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    return tmp_path / "here"


def test_only_changed_files_are_pushed(store: Store, here: Path) -> None:
    mirror = Mirror(here, store)
    assert mirror.files() == ["a.json", "b/c"]
    assert mirror.push(mirror.files()) == 2
    assert mirror.push(mirror.files()) == 0
    assert Mirror(here, store).push(mirror.files()) == 0  # remembered across processes
    (here / "a.json").write_text("other")
    assert Mirror(here, store).push([*mirror.files(), "gone"]) == 1
    assert store.read("a.json") == b"other"
    again = Mirror(here, store)
    again.forget(["b/c"])
    assert again.push(mirror.files()) == 1


def test_only_changed_remote_files_are_pulled(store: Store, here: Path, tmp_path: Path) -> None:
    Mirror(here, store).push(["a.json", "b/c"])
    copy = Mirror(tmp_path / "copy", store)
    assert copy.pull(store.names(), ["a.json", "b/c"]) == 2
    assert copy.pull(store.names(), ["a.json", "b/c"]) == 0
    assert copy.push(copy.files()) == 0  # pulled files are not pushed back
    (here / "a.json").write_text("A.json")  # of the same size
    os.utime(here / "a.json", (1, 1))
    Mirror(here, store).push(["a.json"])
    assert Mirror(copy.local, store).pull(store.names(), ["a.json", "b/c"]) == 1
    assert (copy.local / "a.json").read_text() == "A.json"
    (copy.local / "b/c").write_text("mine")
    assert copy.pull(store.names(), ["b/c"], overwrite=False) == 0
    assert copy.pull(store.names(), ["b/c"]) == 1


def test_folder_is_complete_only_with_its_marker(store: Store) -> None:
    for name in ("x/one", "x/two"):
        store.put_bytes(name.encode(), name)
    assert mirror.files_if_complete(store, store.names(), "x") == []
    with pytest.raises(StorageError, match="x lacks three"):
        mirror.mark_complete(store, "x", ["one", "three"])
    mirror.mark_complete(store, "x", ["one", "two"])
    assert mirror.files_if_complete(store, store.names(), "x") == ["x/one", "x/two"]
    store.put_bytes(b"cut", "x/two")
    assert mirror.files_if_complete(store, store.names(), "x") == []
    store.put_bytes(b"{", f"x/{COMPLETE_FILE}")
    assert mirror.files_if_complete(store, store.names(), "x") == []
    mirror.remove_folder(store, "x")
    assert store.names() == {}


def test_tries_are_bounded() -> None:
    calls = []

    def fails() -> None:
        calls.append(1)
        raise StorageError(f"try {len(calls)}")

    with pytest.raises(StorageError, match="try 3"):
        retry(fails, (0.0, 0.0, 0.0))
    retry(lambda: fails() if len(calls) < 5 else None, (0.0,) * 9)
    assert len(calls) == 5


def test_staging_directory_is_unique_per_uri(tmp_path: Path) -> None:
    one = staging("s3://bucket/runs?scheme=http", str(tmp_path))
    assert one == staging("s3://bucket/runs/?scheme=http", str(tmp_path))
    assert one.is_relative_to(tmp_path)
    assert one.name.startswith("runs-")
    assert (
        len({one, staging("s3://other/runs?scheme=http", str(tmp_path)), staging("s3://bucket/runs", str(tmp_path))})
        == 3
    )
