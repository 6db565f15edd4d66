from __future__ import annotations

import dataclasses
import json
import logging
import os
import pickle
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from distcond.atomic_io import atomic_write
from distcond.config.schema import DataConfig
from distcond.data import convert, prepare
from distcond.data.checksums import content_digest
from distcond.data.convert import LoaderName
from distcond.data.dataset import SPLITS, Arrays, Augment, Dataset
from distcond.data.datasets import digits
from distcond.data.loader import Loader
from distcond.data.prepare import open_source, prepare_dataset, resolve_dataset
from distcond.data.stored_split import StoredSplit
from distcond.errors import ConfigError
from support.forked import fork, status
from support.processes import LIMIT
from support.waiting import wait_until

GREY = Arrays(np.zeros((3, 8, 8, 1), np.uint8), np.zeros(3, np.int64))


def unreadable(root: str) -> Mapping[str, Arrays]:
    raise AssertionError("the source was decoded again")


@pytest.fixture(params=["memory", "ffcv"])
def loader(request: pytest.FixtureRequest) -> str:
    if request.param == "ffcv":
        request.getfixturevalue("needs_ffcv")
    return str(request.param)


def with_read(**changes: object) -> Dataset:
    return dataclasses.replace(digits.DATASET, **changes)  # type: ignore[arg-type]


def test_prepared_data_equals_the_data(tmp_path: Path, loader: str) -> None:
    prepared = prepare_dataset(digits.DATASET, "", str(tmp_path), loader)
    assert prepared.sizes == dict(digits.DATASET.splits)
    assert (prepared.loader, prepared.num_classes, prepared.image_size) == (loader, 10, 8)
    for split, arrays in digits.DATASET.read("").items():
        (x, y), *_ = open_source(prepared, split).read([np.arange(len(arrays.labels))])
        assert np.array_equal(x.numpy(), arrays.images)
        assert np.array_equal(y.numpy(), arrays.labels)
    assert pickle.loads(pickle.dumps(prepared)) == prepared


def test_a_second_start_opens_the_files(tmp_path: Path, loader: str) -> None:
    first = prepare_dataset(digits.DATASET, "", str(tmp_path), loader)
    before = {path: path.stat().st_mtime_ns for path in first.folder.iterdir()}
    assert prepare_dataset(with_read(read=unreadable), "", str(tmp_path), loader) == first
    assert {path: path.stat().st_mtime_ns for path in first.folder.iterdir()} == before


def test_ffcv_converts_from_memory_files(tmp_path: Path, needs_ffcv: None) -> None:
    memory = prepare_dataset(digits.DATASET, "", str(tmp_path), "memory")
    ffcv = prepare_dataset(with_read(read=unreadable), "", str(tmp_path), "ffcv")
    epochs = [[batch.x for batch in Loader(open_source(p, "train"), 100).epoch(0)] for p in (memory, ffcv)]
    assert all(torch.equal(a, b) for a, b in zip(*epochs, strict=True))


@pytest.mark.parametrize("damage", ["cut", "gone", "index gone", "index broken"])
def test_damaged_files_are_written_again(tmp_path: Path, loader: str, damage: str) -> None:
    prepared = prepare_dataset(digits.DATASET, "", str(tmp_path), loader)
    data, index = next(prepared.folder.glob("val*")), prepared.folder / f"{loader}.json"
    whole = data.read_bytes()
    {
        "cut": lambda: data.write_bytes(whole[:100]),
        "gone": data.unlink,
        "index gone": index.unlink,
        "index broken": lambda: index.write_text("{"),
    }[damage]()
    assert prepare_dataset(digits.DATASET, "", str(tmp_path), loader) == prepared
    assert data.read_bytes() == whole
    assert json.loads(index.read_text())["sizes"] == dict(digits.DATASET.splits)


def test_files_of_the_same_size_are_not_trusted(tmp_path: Path, loader: str, caplog: Any) -> None:
    ours = prepare_dataset(digits.DATASET, "", str(tmp_path), loader)
    swapped = with_read(read=lambda root: {s: Arrays(255 - x, y) for s, (x, y) in digits.DATASET.read(root).items()})
    other = prepare_dataset(replace(swapped, fingerprint=lambda root: "0" * 16), "", str(tmp_path), loader)
    for part in ours.folder.glob("train*"):
        whole = part.read_bytes()
        part.write_bytes((other.folder / part.name).read_bytes())
        assert part.stat().st_size == len(whole)
        with caplog.at_level(logging.WARNING):
            assert prepare_dataset(digits.DATASET, "", str(tmp_path), loader) == ours
        assert part.read_bytes() == whole
    assert "changed since it was written" in caplog.records[0].getMessage()
    shutil.rmtree(ours.folder)
    shutil.copytree(other.folder, ours.folder)
    prepare_dataset(digits.DATASET, "", str(tmp_path), loader)
    assert part.read_bytes() == whole


def test_files_without_digests_are_written_again(tmp_path: Path, loader: str) -> None:
    prepared = prepare_dataset(digits.DATASET, "", str(tmp_path), loader)
    index = prepared.folder / f"{loader}.json"
    kept = json.loads(index.read_text())
    index.write_text(json.dumps({"sizes": kept["sizes"], "num_labels": kept["num_labels"], "bytes": {}}))
    assert prepare_dataset(digits.DATASET, "", str(tmp_path), loader) == prepared
    assert json.loads(index.read_text()) == kept


@pytest.mark.parametrize("place", [0, 20 << 20, -1])
def test_large_files_are_digested_in_parts(tmp_path: Path, place: int) -> None:
    file = tmp_path / "large"
    with open(file, "wb") as out:
        out.truncate(40 << 20)
    before = content_digest(file)
    with open(file, "r+b") as out:
        out.seek(place, 0 if place >= 0 else 2)
        out.write(b"x" * (1 << 20 if place > 0 else 1))
    assert content_digest(file) != before


def test_other_content_has_another_folder(tmp_path: Path) -> None:
    first = prepare_dataset(digits.DATASET, "", str(tmp_path), "memory")
    changed = prepare_dataset(with_read(fingerprint=lambda root: "0" * 16), "", str(tmp_path), "memory")
    assert changed.folder != first.folder


def tiny(read: Callable[[str], Mapping[str, Arrays]]) -> Dataset:
    """30, 10 and 20 black images."""
    return Dataset("tiny", "", 10, 8, (0, 0, 0), (1, 1, 1), Augment(), {}, read, lambda root: "0" * 16)


def black(root: str) -> Mapping[str, Arrays]:
    sizes = {"train": 30, "val": 10, "test": 20}
    return {split: Arrays(np.zeros((n, 8, 8, 3), np.uint8), np.arange(n) % 10) for split, n in sizes.items()}


def write_then_die(cache: Path) -> None:
    """Convert until half of the second split is written, and be killed."""
    write = convert._write

    def dying(folder: Path, split: str, content: StoredSplit, loader: LoaderName) -> Any:
        if split == "val":
            with atomic_write(folder / "val.beton") as aside:
                aside.write_bytes(b"half")
                os.kill(os.getpid(), signal.SIGKILL)
        return write(folder, split, content, loader)

    convert._write = dying
    prepare_dataset(tiny(black), "", str(cache), "ffcv")


def test_a_killed_conversion_is_done_again(tmp_path: Path, needs_ffcv: None) -> None:
    assert status(fork(write_then_die, tmp_path)) == -signal.SIGKILL
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    (leftover,) = folder.glob(".*.tmp")
    prepared = prepare_dataset(tiny(black), "", str(tmp_path), "ffcv")
    assert prepared.folder == folder
    assert not leftover.exists()
    assert sorted(path.name for path in folder.iterdir()) == ["ffcv.json", "test.beton", "train.beton", "val.beton"]
    assert len(open_source(prepared, "val")) == 10


def prepare_beside(place: Path, others: int) -> None:
    """Convert once all processes have started; each records what it converted and what it found."""

    def read(root: str) -> Mapping[str, Arrays]:
        (place / f"converts-{os.getpid()}").touch()
        wait_until(lambda: len(list(place.glob("here-*"))) == others, "the other process", every=0.01)
        return black(root)

    (place / f"here-{os.getpid()}").touch()
    found = open_source(prepare_dataset(tiny(read), "", str(place / "cache"), "memory"), "test")
    (place / f"found-{os.getpid()}").write_text(str(len(found)))


def test_one_of_several_processes_converts(tmp_path: Path) -> None:
    processes = [fork(prepare_beside, tmp_path, 2) for _ in range(2)]
    assert [status(process) for process in processes] == [0, 0]
    assert len(list(tmp_path.glob("converts-*"))) == 1
    assert [file.read_text() for file in tmp_path.glob("found-*")] == ["20", "20"]


# Blocks imports as on a machine without these packages. One process prints the facts for all assertions, because each
# process would import torch.
WITHOUT = """
import sys
from importlib.abc import MetaPathFinder
from distcond.registry import lookup, table
table("data")
optional = {"ffcv", "numba", "cv2", "pyarrow", "PIL", "sklearn", "pandas", "ray"}
print("loaded", sorted(optional & set(sys.modules)))

class Missing(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in sys.argv[2].split(","):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())

from distcond.data.loader import Loader
from distcond.data.prepare import open_source, prepare_dataset
from distcond.errors import ConfigError
dataset = lookup("data", "cifar10")
prepared = prepare_dataset(dataset, sys.argv[1], sys.argv[1] + "/cache")
loader = Loader(open_source(prepared, "train"), 6, augment=dataset.augment, shuffle=True)
print(prepared.loader, [len(batch.y) for batch in loader.epoch(0)])
try:
    prepare_dataset(dataset, sys.argv[1], sys.argv[1] + "/cache", "ffcv")
except ConfigError as error:
    print(error)
"""


def test_torch_and_numpy_are_enough(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (30, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(30) % 10
    np.savez(tmp_path / "cifar10.npz", x_train=images[:20], y_train=labels[:20], x_test=images[20:], y_test=labels[20:])
    blocked = "ffcv,numba,cv2,pyarrow,PIL,sklearn,scipy,pandas,ray,tqdm,matplotlib,torchvision"
    command = [sys.executable, "-W", "ignore", "-c", WITHOUT, str(tmp_path), blocked]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)
    loaded, read, refused = done.stdout.splitlines()
    assert loaded == "loaded []", "importing the package loads nothing optional"
    assert read == "memory [6, 6, 6]", done.stderr
    assert refused.startswith("data.loader=ffcv: FFCV does not import (ModuleNotFoundError")
    assert done.stderr == "", "images of this size lose nothing without FFCV"


def test_large_images_say_what_ffcv_brings(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(prepare, "ffcv_problem", lambda: "ImportError: No module named 'ffcv'")
    large = resolve_dataset(DataConfig(name="imagenet"))
    for _ in range(2):
        assert prepare._choose_loader("auto", large) == "memory"
    (line,) = [record.getMessage() for record in caplog.records]
    assert "262 GB of pixels" in line and "distcond[ffcv]" in line and "\n" not in line


def test_an_unknown_loader_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.loader=fast: .*auto, ffcv, memory"):
        prepare_dataset(digits.DATASET, "", str(tmp_path), "fast")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_classes": 9}, "labels reach 9; needed: 0 to 8"),
        ({"image_size": 16}, "not 16 pixels square"),
        ({"read": lambda root: dict.fromkeys(SPLITS, GREY)}, "uint8"),
    ],
)
def test_contradicting_data_is_refused(tmp_path: Path, loader: str, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        prepare_dataset(with_read(**changes), "", str(tmp_path), loader)


def test_cache_dir_expands_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert prepare_dataset(digits.DATASET, "", "~/cache", "memory").folder.is_relative_to(tmp_path)
    assert os.listdir(tmp_path) == ["cache"]
