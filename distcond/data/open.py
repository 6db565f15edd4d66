"""From a data set's name to sources: converted once into files that open at once, then only opened."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from distcond.aside import locked, written_aside
from distcond.data.dataset import SPLITS, Arrays, Dataset, check_arrays
from distcond.data.ffcv_import import ffcv_problem
from distcond.data.source import Source
from distcond.errors import ConfigError

_log = logging.getLogger(__name__)

LoaderName = Literal["ffcv", "memory"]
#: Version of the converted files: raise it when what is in them changes.
FORMAT = 1
SUFFIXES: Mapping[LoaderName, tuple[str, ...]] = {"ffcv": (".beton",), "memory": (".images.npy", ".labels.npy")}


@dataclass(frozen=True)
class Prepared:
    """A data set ready to be opened. Plain values only, so it can travel to another process of the same machine."""

    name: str
    loader: LoaderName
    fingerprint: str
    folder: Path
    num_classes: int
    image_size: int
    sizes: Mapping[str, int]  # images in "train", "val", "test"


def prepare(dataset: Dataset, root: str, cache_dir: str, loader: str = "auto") -> Prepared:
    """Convert `dataset` below `cache_dir` if that has not been done, and say what is there.

    The driver calls it once and every worker again: with the files in place it only identifies the root's content.
    Any number of processes may call it at once; on each machine one of them converts.

    Raises:
        ConfigError: `root` does not hold the data set; `loader` is unknown, or "ffcv" and not installed.
    """
    chosen = _choose(loader)
    fingerprint = dataset.fingerprint(root)
    folder = Path(cache_dir).expanduser() / f"{dataset.name}-{fingerprint}-v{FORMAT}"
    sizes = _sizes(folder, chosen)
    if sizes is None:
        with locked(folder.with_name(f".{folder.name}.lock")):
            sizes = _sizes(folder, chosen) or _convert(dataset, root, folder, chosen)
    return Prepared(dataset.name, chosen, fingerprint, folder, dataset.num_classes, dataset.image_size, sizes)


def open_source(prepared: Prepared, split: str, device: torch.device | str = "cpu", threads: int = 1) -> Source:
    """One split ("train", "val", "test") as a source of batches on `device`, read by `threads` threads."""
    assert split in prepared.sizes, split
    if prepared.loader == "ffcv":
        from distcond.data.ffcv_source import FfcvSource

        return FfcvSource(prepared.folder / f"{split}.beton", device, threads)
    from distcond.data.memory import MemorySource

    return MemorySource(_load(prepared.folder, split), device)


def _choose(loader: str) -> LoaderName:
    if loader not in ("auto", "ffcv", "memory"):
        raise ConfigError(f"data.loader={loader}: valid: auto, ffcv, memory")
    if loader == "memory":
        return "memory"
    problem = ffcv_problem()
    if problem is None:
        return "ffcv"
    if loader == "ffcv":
        raise ConfigError(f"data.loader=ffcv: FFCV does not import ({problem}); install it or use data.loader=memory")
    _log.warning("data.loader=auto: FFCV does not import (%s), so the images are read from memory", problem)
    return "memory"


def _convert(dataset: Dataset, root: str, folder: Path, loader: LoaderName) -> dict[str, int]:
    # The other loader's decoded images may lie there already.
    done = _sizes(folder, "memory")
    splits = {split: _load(folder, split) for split in done} if done else dataset.read(root)
    for split in SPLITS:
        _check(dataset, splits[split], split)
    for split in SPLITS:
        _write(folder, split, splits[split], loader)
    sizes = {split: len(splits[split].labels) for split in SPLITS}
    # Last: its presence says that the others are whole.
    with written_aside(_index(folder, loader)) as aside:
        aside.write_text(json.dumps({"sizes": sizes, "bytes": _bytes(folder, loader)}, indent=1), encoding="utf-8")
    return sizes


def _check(dataset: Dataset, arrays: Arrays, split: str) -> None:
    what = f"data.root: {dataset.name} {split}"
    check_arrays(arrays, what)
    if arrays.images.shape[1:3] != (dataset.image_size, dataset.image_size):
        raise ConfigError(f"{what}: images are {arrays.images.shape[1:3]}, not {dataset.image_size} pixels square")
    if arrays.labels.min() < 0 or arrays.labels.max() >= dataset.num_classes:
        raise ConfigError(f"{what}: labels reach {arrays.labels.max()}; needed: 0 to {dataset.num_classes - 1}")


def _write(folder: Path, split: str, arrays: Arrays, loader: LoaderName) -> None:
    if loader == "ffcv":
        from distcond.data.beton import write_beton

        write_beton(folder / f"{split}.beton", arrays)
        return
    for suffix, array in zip(SUFFIXES["memory"], arrays, strict=True):
        with written_aside(folder / f"{split}{suffix}") as aside, open(aside, "wb") as file:
            np.save(file, array)


def _load(folder: Path, split: str) -> Arrays:
    # Mapped copy-on-write: the ranks of one machine share the pages, and torch gets memory it may call writable.
    return Arrays(*(np.load(folder / f"{split}{suffix}", mmap_mode="c") for suffix in SUFFIXES["memory"]))


def _sizes(folder: Path, loader: LoaderName) -> dict[str, int] | None:
    """The sizes of the splits if they are all there and whole."""
    try:
        index = json.loads(_index(folder, loader).read_text(encoding="utf-8"))
        sizes: dict[str, int] = index["sizes"]
        return sizes if index["bytes"] == _bytes(folder, loader) else None
    except (OSError, ValueError, KeyError):
        return None


def _index(folder: Path, loader: LoaderName) -> Path:
    return folder / f"{loader}.json"


def _bytes(folder: Path, loader: LoaderName) -> dict[str, int]:
    names = [f"{split}{suffix}" for split in SPLITS for suffix in SUFFIXES[loader]]
    return {name: (folder / name).stat().st_size for name in names}
