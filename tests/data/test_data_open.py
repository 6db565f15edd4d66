from __future__ import annotations

import dataclasses
import json
import logging
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from distcond.data import digits
from distcond.data.content import content_of
from distcond.data.dataset import SPLITS, Arrays, Dataset
from distcond.data.loader import Loader
from distcond.data.open import open_source, prepare
from distcond.errors import ConfigError

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


def run(code: str, *args: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "ignore", "-c", code, *map(str, args)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_prepared_data_is_the_data(tmp_path: Path, loader: str) -> None:
    prepared = prepare(digits.DATASET, "", str(tmp_path), loader)
    assert prepared.sizes == dict(digits.DATASET.splits)
    assert (prepared.loader, prepared.num_classes, prepared.image_size) == (loader, 10, 8)
    for split, arrays in digits.DATASET.read("").items():
        (x, y), *_ = open_source(prepared, split).read([np.arange(len(arrays.labels))])
        assert np.array_equal(x.numpy(), arrays.images)
        assert np.array_equal(y.numpy(), arrays.labels)
    assert pickle.loads(pickle.dumps(prepared)) == prepared


def test_a_second_start_opens_the_files(tmp_path: Path, loader: str) -> None:
    first = prepare(digits.DATASET, "", str(tmp_path), loader)
    before = {path: path.stat().st_mtime_ns for path in first.folder.iterdir()}
    assert prepare(with_read(read=unreadable), "", str(tmp_path), loader) == first
    assert {path: path.stat().st_mtime_ns for path in first.folder.iterdir()} == before


def test_one_loader_converts_from_the_others_files(tmp_path: Path, needs_ffcv: None) -> None:
    memory = prepare(digits.DATASET, "", str(tmp_path), "memory")
    ffcv = prepare(with_read(read=unreadable), "", str(tmp_path), "ffcv")
    epochs = [[batch.x for batch in Loader(open_source(p, "train"), 100).epoch(0)] for p in (memory, ffcv)]
    assert all(torch.equal(a, b) for a, b in zip(*epochs, strict=True))


@pytest.mark.parametrize("damage", ["cut", "gone", "index gone", "index broken"])
def test_damaged_files_are_written_again(tmp_path: Path, loader: str, damage: str) -> None:
    prepared = prepare(digits.DATASET, "", str(tmp_path), loader)
    data, index = next(prepared.folder.glob("val*")), prepared.folder / f"{loader}.json"
    whole = data.read_bytes()
    {
        "cut": lambda: data.write_bytes(whole[:100]),
        "gone": data.unlink,
        "index gone": index.unlink,
        "index broken": lambda: index.write_text("{"),
    }[damage]()
    assert prepare(digits.DATASET, "", str(tmp_path), loader) == prepared
    assert data.read_bytes() == whole
    assert json.loads(index.read_text())["sizes"] == dict(digits.DATASET.splits)


def test_files_of_the_same_size_are_not_trusted(tmp_path: Path, loader: str, caplog: Any) -> None:
    ours = prepare(digits.DATASET, "", str(tmp_path), loader)
    swapped = with_read(read=lambda root: {s: Arrays(255 - x, y) for s, (x, y) in digits.DATASET.read(root).items()})
    other = prepare(replace(swapped, fingerprint=lambda root: "0" * 16), "", str(tmp_path), loader)
    for part in ours.folder.glob("train*"):
        whole = part.read_bytes()
        part.write_bytes((other.folder / part.name).read_bytes())
        assert part.stat().st_size == len(whole)
        with caplog.at_level(logging.WARNING):
            assert prepare(digits.DATASET, "", str(tmp_path), loader) == ours
        assert part.read_bytes() == whole
    assert "is not what was written there" in caplog.records[0].getMessage()
    shutil.rmtree(ours.folder)
    shutil.copytree(other.folder, ours.folder)
    prepare(digits.DATASET, "", str(tmp_path), loader)
    assert part.read_bytes() == whole


def test_files_without_digests_are_written_again(tmp_path: Path, loader: str) -> None:
    prepared = prepare(digits.DATASET, "", str(tmp_path), loader)
    index = prepared.folder / f"{loader}.json"
    kept = json.loads(index.read_text())
    index.write_text(json.dumps({"sizes": kept["sizes"], "num_labels": kept["num_labels"], "bytes": {}}))
    assert prepare(digits.DATASET, "", str(tmp_path), loader) == prepared
    assert json.loads(index.read_text()) == kept


@pytest.mark.parametrize("place", [0, 20 << 20, -1])
def test_parts_of_a_large_file_tell_it(tmp_path: Path, place: int) -> None:
    file = tmp_path / "large"
    with open(file, "wb") as out:
        out.truncate(40 << 20)
    before = content_of(file)
    with open(file, "r+b") as out:
        out.seek(place, 0 if place >= 0 else 2)
        out.write(b"x" * (1 << 20 if place > 0 else 1))
    assert content_of(file) != before


def test_other_content_gets_other_files(tmp_path: Path) -> None:
    first = prepare(digits.DATASET, "", str(tmp_path), "memory")
    changed = prepare(with_read(fingerprint=lambda root: "0" * 16), "", str(tmp_path), "memory")
    assert changed.folder != first.folder


# A data set that needs nothing but numpy, for what runs in processes of its own.
TINY = """
import sys, numpy as np
from distcond.data.dataset import Arrays, Augment, Dataset
def read(root):
    print("converts", flush=True)
    sizes = {"train": 30, "val": 10, "test": 20}
    return {split: Arrays(np.zeros((n, 8, 8, 3), np.uint8), np.arange(n) % 10) for split, n in sizes.items()}
TINY = Dataset("tiny", "", 10, 8, (0, 0, 0), (1, 1, 1), Augment(), {}, read, lambda root: "0" * 16)
"""

KILLED = f"""{TINY}
import os, signal
from distcond.data import convert, open as data_open
from distcond.aside import written_aside
write = convert._write
def write_then_die(folder, split, content, loader):
    if split == "val":
        with written_aside(folder / "val.beton") as aside:
            aside.write_bytes(b"half")
            os.kill(os.getpid(), signal.SIGKILL)
    write(folder, split, content, loader)
convert._write = write_then_die
data_open.prepare(TINY, "", sys.argv[1], "ffcv")
"""


def test_a_killed_conversion_is_done_again(tmp_path: Path, needs_ffcv: None) -> None:
    process = run(KILLED, tmp_path)
    process.communicate()
    assert process.returncode == -9
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    (leftover,) = folder.glob(".*.tmp")
    same_folder = with_read(name="tiny", fingerprint=lambda root: "0" * 16)
    prepared = prepare(same_folder, "", str(tmp_path), "ffcv")
    assert prepared.folder == folder
    assert not leftover.exists()
    assert sorted(path.name for path in folder.iterdir()) == ["ffcv.json", "test.beton", "train.beton", "val.beton"]
    assert len(open_source(prepared, "val")) == 180


def test_of_several_processes_one_converts(tmp_path: Path) -> None:
    code = f"""{TINY}
import dataclasses, os, time
from pathlib import Path
from distcond.data.open import open_source, prepare
def read_when_both_are_here(root):
    while len(list(Path(sys.argv[2]).iterdir())) < 2:
        time.sleep(0.01)
    return read(root)
slow = dataclasses.replace(TINY, read=read_when_both_are_here)
Path(sys.argv[2], str(os.getpid())).touch()
print(len(open_source(prepare(slow, "", sys.argv[1], "memory"), "test")))
"""
    (here := tmp_path / "here").mkdir()
    processes = [run(code, tmp_path / "cache", here) for _ in range(2)]
    outputs = sorted(process.communicate()[0] for process in processes)
    assert outputs == ["20\n", "converts\n20\n"]


# Stands in front of the import system like a machine on which these were never installed.
BLOCK = """
import sys
from importlib.abc import MetaPathFinder
class Missing(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in sys.argv[2].split(","):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
"""


def test_auto_without_ffcv_reads_memory_and_says_so(tmp_path: Path) -> None:
    code = f"""{BLOCK}{TINY}
from distcond.data.open import open_source, prepare
from distcond.errors import ConfigError
prepared = prepare(TINY, "", sys.argv[1])
print(prepared.loader, len(open_source(prepared, "test")))
try:
    prepare(TINY, "", sys.argv[1], "ffcv")
except ConfigError as error:
    print(error)
"""
    out, err = run(code, tmp_path, "ffcv").communicate()
    assert out.splitlines()[:2] == ["converts", "memory 20"]
    assert out.splitlines()[2].startswith("data.loader=ffcv: FFCV does not import (ModuleNotFoundError")
    (line,) = err.splitlines()
    assert line.startswith("data.loader=auto: FFCV does not import (ModuleNotFoundError")


def test_torch_and_numpy_are_enough(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (30, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(30) % 10
    np.savez(tmp_path / "cifar10.npz", x_train=images[:20], y_train=labels[:20], x_test=images[20:], y_test=labels[20:])
    code = f"""{BLOCK}
from distcond.data.loader import Loader
from distcond.data.open import open_source, prepare
from distcond.registry import lookup
dataset = lookup("data", "cifar10")
prepared = prepare(dataset, sys.argv[1], sys.argv[1] + "/cache")
loader = Loader(open_source(prepared, "train"), 6, augment=dataset.augment, shuffle=True)
print([len(batch.y) for batch in loader.epoch(0)])
"""
    blocked = "ffcv,numba,cv2,pyarrow,PIL,sklearn,scipy,pandas,ray,tqdm,matplotlib,torchvision"
    out, err = run(code, tmp_path, blocked).communicate()
    assert out == "[6, 6, 6]\n", err


def test_importing_the_room_loads_nothing_optional() -> None:
    code = """
import sys
from distcond.registry import table
table("data")
print(sorted({"ffcv", "numba", "cv2", "pyarrow", "PIL", "sklearn", "pandas", "ray"} & set(sys.modules)))
"""
    assert run(code).communicate()[0] == "[]\n"


def test_an_unknown_loader_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.loader=fast: .*auto, ffcv, memory"):
        prepare(digits.DATASET, "", str(tmp_path), "fast")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_classes": 9}, "labels reach 9; needed: 0 to 8"),
        ({"image_size": 16}, "not 16 pixels square"),
        ({"read": lambda root: dict.fromkeys(SPLITS, GREY)}, "uint8"),
    ],
)
def test_data_that_is_not_as_declared_is_refused(
    tmp_path: Path, loader: str, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        prepare(with_read(**changes), "", str(tmp_path), loader)


def test_the_cache_may_lie_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert prepare(digits.DATASET, "", "~/cache", "memory").folder.is_relative_to(tmp_path)
    assert os.listdir(tmp_path) == ["cache"]
