"""From `DataConfig` to sources: resolve the data set, convert it once per machine, open a split.

After `infer_from_root` a data set is described by settings alone. Calling `prepare_data` or `class_names` again in a
process costs little: the root is listed and hashed once (`readers.layout`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import torch

from distcond.atomic_io import file_lock
from distcond.config.schema import DataConfig
from distcond.data.convert import LoaderName, check_num_classes, convert, log_why_reconverted, read_index
from distcond.data.dataset import Augment, Dataset
from distcond.data.extra import prepare_extra
from distcond.data.ffcv.source import ffcv_problem
from distcond.data.labels import NATURAL, order_names
from distcond.data.sources import CenterCrop, MemorySource, Source
from distcond.data.stored_split import map_arrays
from distcond.errors import ConfigError
from distcond.path_errors import name_setting_in_errors
from distcond.registry import lookup

_log = logging.getLogger(__name__)

#: Version of the converted files: raise it when their content changes.
FORMAT = 1
#: Images up to this side are stored raw, larger ones as JPEG at 8/7 of it: 256 pixels for 224.
MAX_RAW_SIDE = 128
#: Area shares of a random resized crop.
CROP = (0.08, 1.0)


@dataclass(frozen=True)
class Prepared:
    """A converted data set. Plain values only, so it can travel to another process of the same machine."""

    name: str
    loader: LoaderName
    fingerprint: str
    folder: Path
    num_classes: int
    image_size: int
    sizes: Mapping[str, int]  # images in "train", "val", "test"


def infer_from_root(data: DataConfig) -> DataConfig:
    """`data` with the sizes that only its root determines. Logs a warning about files that are ignored.

    Raises:
        ConfigError: the root does not hold the data set.
    """
    dataset: Dataset = lookup("data", data.name)
    with name_setting_in_errors(_path_settings(data)):
        notes = dataset.notes(data.root) if Path(data.root).expanduser().is_dir() else ()
    for note in notes:
        _log.warning("%s", note)
    if dataset.infer_sizes is None or (data.num_classes and data.image_size):
        return data
    with name_setting_in_errors(_path_settings(data)):
        sizes = dataset.infer_sizes(data.root)
    return replace(
        data, num_classes=data.num_classes or sizes.num_classes, image_size=data.image_size or sizes.image_size
    )


def resolve_dataset(data: DataConfig) -> Dataset:
    """The data set that `data` names, with the settings of `data` applied.

    Raises:
        ConfigError: a setting does not fit the data set, or still has to be inferred (`infer_from_root`).
    """
    dataset: Dataset = lookup("data", data.name)
    dataset = replace(
        dataset,
        mean=_channel_values("mean", data, dataset),
        std=_channel_values("std", data, dataset),
        class_order=data.class_order,
    )
    if not dataset.any_size:
        _check_fixed_sizes(data, dataset)
        return dataset
    dataset = replace(
        dataset, num_classes=data.num_classes or dataset.num_classes, image_size=data.image_size or dataset.image_size
    )
    for name in ("num_classes", "image_size"):
        if not getattr(dataset, name):
            raise ConfigError(f"data.{name}=0: inferred from data.root when a run starts; set it to use it earlier")
    if dataset.num_classes == 1:
        raise ConfigError(f"data.num_classes=1: {data.root or dataset.name} has a single class; needed: 2 or more")
    return _with_stored_size(data, dataset)


def class_names(data: DataConfig) -> tuple[str, ...]:
    """Class names in the order of their labels; empty if the files do not name them.

    Raises:
        ConfigError: `data.root` cannot be read; or `data.class_order` is set and there are no names.
    """
    with name_setting_in_errors(_path_settings(data)):
        names = order_names(lookup("data", data.name).classes(data.root), data.class_order)
    if data.class_order != NATURAL and not names:
        raise ConfigError(f"data.class_order={data.class_order}: the classes of {data.name} have no names there")
    return names


def prepare_data(data: DataConfig) -> Prepared:
    """The converted images of `data`; converts them if needed, see `prepare_dataset`.

    The fingerprint covers all training images, `data.extra` included.

    Raises:
        ConfigError: `data.root` or `data.extra` cannot be used.
    """
    dataset = resolve_dataset(data)
    with name_setting_in_errors(_path_settings(data)):
        prepared = prepare_dataset(dataset, data.root, data.cache_dir, data.loader)
        if not data.extra:
            return prepared
        extra = prepare_extra(data.extra, data.cache_dir, dataset)
    return replace(prepared, fingerprint=f"{prepared.fingerprint}+{extra.fingerprint}")


def prepare_dataset(dataset: Dataset, root: str, cache_dir: str, loader: str = "auto") -> Prepared:
    """Convert `dataset` below `cache_dir` unless that has been done.

    The driver calls this first and every worker again; workers then only fingerprint the root. Any number of processes
    may call it at once: on each machine one of them converts.

    Raises:
        ConfigError: `root` does not hold the data set; `loader` is unknown, or "ffcv" and FFCV is not installed.
    """
    chosen = _choose_loader(loader, dataset)
    fingerprint = dataset.fingerprint(root)
    form = f"-{dataset.side}{'jpg' if dataset.jpeg else 'raw'}" if dataset.any_size else ""
    form += f"-{dataset.class_order}" if dataset.class_order != NATURAL else ""
    folder = Path(cache_dir).expanduser() / f"{dataset.name}-{fingerprint}{form}-v{FORMAT}"
    index = read_index(folder, chosen)
    if index is None:
        with file_lock(folder.with_name(f".{folder.name}.lock")):
            index = read_index(folder, chosen)
            if index is None:
                log_why_reconverted(folder, chosen)
                index = convert(dataset, root, folder, chosen)
    check_num_classes(dataset, index, root)
    return Prepared(dataset.name, chosen, fingerprint, folder, dataset.num_classes, dataset.image_size, index.sizes)


def open_source(prepared: Prepared, split: str, device: torch.device | str = "cpu", threads: int = 1) -> Source:
    """A split ("train", "val", "test") as a source of batches on `device`, read by `threads` threads.

    Images that are stored larger than the network's are cropped to their centre (`sources.CenterCrop`).
    """
    assert split in prepared.sizes, split
    source = _open_stored(prepared, split, device, threads)
    return source if source.image_size == prepared.image_size else CenterCrop(source, prepared.image_size)


def _open_stored(prepared: Prepared, split: str, device: torch.device | str, threads: int) -> Source:
    if prepared.loader == "ffcv":
        from distcond.data.ffcv.source import FfcvSource

        return FfcvSource(prepared.folder / f"{split}.beton", device, threads)
    return MemorySource(map_arrays(prepared.folder, split), device)


def _choose_loader(loader: str, dataset: Dataset) -> LoaderName:
    if loader not in ("auto", "ffcv", "memory"):
        raise ConfigError(f"data.loader={loader}: valid: auto, ffcv, memory")
    if loader == "memory":
        return "memory"
    problem = ffcv_problem()
    if problem is None:
        return "ffcv"
    if loader == "ffcv":
        raise ConfigError(f"data.loader=ffcv: FFCV does not import ({problem}); install it or use data.loader=memory")
    log = _log.warning if dataset.jpeg else _log.info  # small images lose nothing
    _log_once(log, f"data.loader=auto: FFCV does not import ({problem}), {_without_ffcv(dataset)}")
    return "memory"


def _without_ffcv(dataset: Dataset) -> str:
    """What the in-memory loader means for a data set, and what FFCV would bring."""
    if not dataset.jpeg:
        return "reading the images from memory"
    gigabytes = sum(dataset.splits.values()) * 3 * dataset.side**2 / 1e9
    size = f"{gigabytes:.0f} GB of pixels" if gigabytes >= 1 else "pixels"
    return (
        f"keeping {size} in memory or on disk; FFCV stores JPEG and decodes it in parallel: "
        "pip install 'distcond[ffcv]', with a C++ compiler, OpenCV and libjpeg-turbo"
    )


@cache
def _log_once(log: Callable[[str, str], None], line: str) -> None:
    log("%s", line)


def _path_settings(data: DataConfig) -> dict[str, str]:
    return {"data.root": data.root, "data.extra": data.extra, "data.cache_dir": data.cache_dir}


def _check_fixed_sizes(data: DataConfig, dataset: Dataset) -> None:
    for name in ("num_classes", "image_size", "stored_size"):
        own = dataset.side if name == "stored_size" else getattr(dataset, name)
        if getattr(data, name) not in (0, own):
            raise ConfigError(f"data.{name}={getattr(data, name)}: {dataset.name} has {own}; valid: 0, {own}")


def _with_stored_size(data: DataConfig, dataset: Dataset) -> Dataset:
    size = dataset.image_size
    side = data.stored_size or (size if size <= MAX_RAW_SIDE else size * 8 // 7)
    if side < size:
        raise ConfigError(f"data.stored_size={side}: less than data.image_size={size}; valid: 0, {size} or more")
    augment = Augment(flip=dataset.augment.flip, crop=CROP) if side > size else dataset.augment
    return replace(dataset, stored_size=side, augment=augment)


def _channel_values(name: str, data: DataConfig, dataset: Dataset) -> tuple[float, float, float]:
    values: tuple[float, ...] = getattr(data, name) or getattr(dataset, name)
    low = 0 if name == "mean" else 1e-6
    if len(values) != 3 or not all(low <= value <= 1 for value in values):
        text = ",".join(f"{value:g}" for value in values)
        raise ConfigError(f"data.{name}={text}: needed: red, green, blue in [0, 1], std above 0; such as 0.5,0.5,0.5")
    red, green, blue = values
    return red, green, blue
