"""What a config says about its data set: a function of the config alone, once the driver has settled it."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from distcond.config.schema import DataConfig
from distcond.data.class_names import NATURAL, in_order
from distcond.data.dataset import Augment, Dataset
from distcond.data.extra import prepare_extra
from distcond.data.open import Prepared, prepare
from distcond.errors import ConfigError
from distcond.places import named
from distcond.registry import lookup

_log = logging.getLogger(__name__)

#: Images up to this side are stored as they are, larger ones as JPEG at 8/7 of it: 256 pixels for 224.
STORED_RAW = 128
#: Shares of the area that a random crop of a larger image takes.
CROP = (0.08, 1.0)


def described(data: DataConfig) -> Dataset:
    """The data set that `data` names, with what else it says of it.

    Raises:
        ConfigError: what it says does not go with that data set; or is left to the root (`settled`).
    """
    dataset: Dataset = lookup("data", data.name)
    dataset = replace(
        dataset,
        mean=_channels("mean", data, dataset),
        std=_channels("std", data, dataset),
        class_order=data.class_order,
    )
    if not dataset.any_size:
        _check_fixed(data, dataset)
        return dataset
    dataset = replace(
        dataset, num_classes=data.num_classes or dataset.num_classes, image_size=data.image_size or dataset.image_size
    )
    for name in ("num_classes", "image_size"):
        if not getattr(dataset, name):
            raise ConfigError(f"data.{name}=0: only data.root has it, which a run looks at when it starts; or state it")
    if dataset.num_classes == 1:
        raise ConfigError(f"data.num_classes=1: {data.root or dataset.name} has a single class; needed: 2 or more")
    return _stored(data, dataset)


def class_names(data: DataConfig) -> tuple[str, ...]:
    """The names of the classes in the order of their numbers; empty where the files do not name them.

    Raises:
        ConfigError: `data.root` cannot be read; or `data.class_order` is to order names that there are none of.
    """
    with named(_places(data)):
        names = in_order(lookup("data", data.name).classes(data.root), data.class_order)
    if data.class_order != NATURAL and not names:
        raise ConfigError(f"data.class_order={data.class_order}: the classes of {data.name} have no names there")
    return names


def settled(data: DataConfig) -> DataConfig:
    """`data` with what only its root can tell, so that from here on the root is not needed to describe a run.

    What lies in the root and is not read is logged.

    Raises:
        ConfigError: the root does not hold the data set.
    """
    dataset: Dataset = lookup("data", data.name)
    with named(_places(data)):
        notes = dataset.notes(data.root) if Path(data.root).expanduser().is_dir() else ()
    for note in notes:
        _log.warning("%s", note)
    if dataset.found is None or (data.num_classes and data.image_size):
        return data
    with named(_places(data)):
        found = dataset.found(data.root)
    return replace(
        data, num_classes=data.num_classes or found.num_classes, image_size=data.image_size or found.image_size
    )


def prepared(data: DataConfig) -> Prepared:
    """The images of `data`, converted if they have not been yet (see `open.prepare`).

    The fingerprint is that of everything trained on, `data.extra` included.

    Raises:
        ConfigError: `data.root` or `data.extra` cannot be used.
    """
    dataset = described(data)
    with named(_places(data)):
        found = prepare(dataset, data.root, data.cache_dir, data.loader)
        if not data.extra:
            return found
        extra = prepare_extra(data.extra, data.cache_dir, dataset)
    return replace(found, fingerprint=f"{found.fingerprint}+{extra.fingerprint}")


def _places(data: DataConfig) -> dict[str, str]:
    return {"data.root": data.root, "data.extra": data.extra, "data.cache_dir": data.cache_dir}


def _check_fixed(data: DataConfig, dataset: Dataset) -> None:
    for name in ("num_classes", "image_size", "stored_size"):
        own = dataset.side if name == "stored_size" else getattr(dataset, name)
        if getattr(data, name) not in (0, own):
            raise ConfigError(f"data.{name}={getattr(data, name)}: {dataset.name} has {own}; valid: 0, {own}")


def _stored(data: DataConfig, dataset: Dataset) -> Dataset:
    size = dataset.image_size
    side = data.stored_size or (size if size <= STORED_RAW else size * 8 // 7)
    if side < size:
        raise ConfigError(f"data.stored_size={side}: less than data.image_size={size}; valid: 0, {size} or more")
    augment = Augment(flip=dataset.augment.flip, crop=CROP) if side > size else dataset.augment
    return replace(dataset, stored_size=side, augment=augment)


def _channels(name: str, data: DataConfig, dataset: Dataset) -> tuple[float, float, float]:
    values: tuple[float, ...] = getattr(data, name) or getattr(dataset, name)
    low = 0 if name == "mean" else 1e-6
    if len(values) != 3 or not all(low <= value <= 1 for value in values):
        text = ",".join(f"{value:g}" for value in values)
        raise ConfigError(f"data.{name}={text}: needed: red, green, blue in [0, 1], std above 0; such as 0.5,0.5,0.5")
    red, green, blue = values
    return red, green, blue
