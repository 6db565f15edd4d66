"""From a data set's name to sources: converted once into files that open at once, then only opened."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from distcond.aside import locked
from distcond.data.central import Central
from distcond.data.class_names import NATURAL
from distcond.data.convert import LoaderName, check_classes, convert, explain, index_of
from distcond.data.dataset import Dataset
from distcond.data.ffcv_import import ffcv_problem
from distcond.data.memory_files import mapped
from distcond.data.source import Source
from distcond.errors import ConfigError

_log = logging.getLogger(__name__)

#: Version of the converted files: raise it when what is in them changes.
FORMAT = 1


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
    form = f"-{dataset.side}{'jpg' if dataset.jpeg else 'raw'}" if dataset.any_size else ""
    form += f"-{dataset.class_order}" if dataset.class_order != NATURAL else ""
    folder = Path(cache_dir).expanduser() / f"{dataset.name}-{fingerprint}{form}-v{FORMAT}"
    index = index_of(folder, chosen)
    if index is None:
        with locked(folder.with_name(f".{folder.name}.lock")):
            index = index_of(folder, chosen)
            if index is None:
                explain(folder, chosen)
                index = convert(dataset, root, folder, chosen)
    check_classes(dataset, index, root)
    return Prepared(dataset.name, chosen, fingerprint, folder, dataset.num_classes, dataset.image_size, index.sizes)


def open_source(prepared: Prepared, split: str, device: torch.device | str = "cpu", threads: int = 1) -> Source:
    """One split ("train", "val", "test") as a source of batches on `device`, read by `threads` threads.

    Images stored larger than the network's are cut to their centre (`central.Central`).
    """
    assert split in prepared.sizes, split
    source = _whole_images(prepared, split, device, threads)
    return source if source.image_size == prepared.image_size else Central(source, prepared.image_size)


def _whole_images(prepared: Prepared, split: str, device: torch.device | str, threads: int) -> Source:
    if prepared.loader == "ffcv":
        from distcond.data.ffcv_source import FfcvSource

        return FfcvSource(prepared.folder / f"{split}.beton", device, threads)
    from distcond.data.memory import MemorySource

    return MemorySource(mapped(prepared.folder, split), device)


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
