"""The ways one data set lies on disk: each is a value that recognises its files and reads them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from distcond.data.dataset import Arrays
from distcond.data.fingerprint import fingerprint
from distcond.errors import ConfigError

#: "train", "test" and perhaps "val" -> the files of that split, in reading order.
Files = Mapping[str, Sequence[Path]]


@dataclass(frozen=True)
class Layout:
    """One layout.

    Attributes:
        accepts: what a root of this layout holds, in a few words, for error messages.
        find: root -> its files; None if the root has another layout.
        read: files and image size -> arrays, in an order that the files alone decide.
    """

    accepts: str
    find: Callable[[Path], Files | None]
    read: Callable[[Files, int], Mapping[str, Arrays]]


def read_any(root: str, layouts: Sequence[Layout], name: str, image_size: int) -> dict[str, Arrays]:
    """The splits of the first layout that `root` has; "val" is held out of "train" where the files have none.

    Raises:
        ConfigError: as `detect`; or the files are damaged.
    """
    layout, files = detect(root, layouts, name)
    splits = dict(layout.read(files, image_size))
    if "val" not in splits:
        splits["train"], splits["val"] = hold_out(splits["train"])
    return splits


def fingerprint_any(root: str, layouts: Sequence[Layout], name: str) -> str:
    """The fingerprint of the files that `read_any` would read.

    Raises:
        ConfigError: as `detect`.
    """
    _, files = detect(root, layouts, name)
    return fingerprint([path for split in files.values() for path in split], Path(root).expanduser())


def detect(root: str, layouts: Sequence[Layout], name: str) -> tuple[Layout, Files]:
    """The first of `layouts` that `root` has, and its files.

    Raises:
        ConfigError: there is none.
    """
    accepted = "; ".join(layout.accepts for layout in layouts)
    if not root:
        raise ConfigError(f"data.root is empty: {name} needs data.root=FOLDER, which holds one of: {accepted}")
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise ConfigError(f"data.root={root} is not a folder; {name} needs one that holds one of: {accepted}")
    for layout in layouts:
        if files := layout.find(folder):
            return layout, files
    raise ConfigError(f"data.root={root} does not hold {name} in a known layout; accepted: {accepted}")


def hold_out(train: Arrays) -> tuple[Arrays, Arrays]:
    """Split off the last tenth of the training images for validation: of CIFAR's 50,000 the last 5,000.

    Raises:
        ConfigError: too few images for that.
    """
    count = len(train.labels) - max(1, len(train.labels) // 10)
    if not count:
        raise ConfigError("data.root: a single training image leaves nothing for validation; give at least 2")
    return Arrays(train.images[:count], train.labels[:count]), Arrays(train.images[count:], train.labels[count:])
