"""The ways one data set lies on disk: each is a value that recognises its files and reads them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from distcond.data.checksums import Published, check_listed, check_published
from distcond.data.dataset import Dataset, Split
from distcond.data.fingerprint import fingerprint
from distcond.data.hold_out import HoldOut, held_out, last
from distcond.errors import ConfigError

LAST_TENTH = last(Fraction(1, 10))
#: "train", "test" and perhaps "val" -> the files of that split, in reading order.
Files = Mapping[str, Sequence[Path]]


@dataclass(frozen=True)
class Layout:
    """One layout.

    Attributes:
        accepts: what a root of this layout holds, in a few words, for error messages.
        find: root -> its files; None if the root has another layout.
        read: files and data set -> splits, in an order that the files alone decide. Labels are within
            `num_classes`, unless that is 0.
        published: the original files by name.
    """

    accepts: str
    find: Callable[[Path], Files | None]
    read: Callable[[Files, Dataset], Mapping[str, Split]]
    published: Mapping[str, Published] = field(default_factory=dict)


def read_any(
    root: str, layouts: Sequence[Layout], dataset: Dataset, hold_out: HoldOut = LAST_TENTH
) -> dict[str, Split]:
    """The splits of the first layout that `root` has; "val" is held out of "train" where the files have none.

    Raises:
        ConfigError: as `detect`; or the files are damaged.
    """
    layout, files = detect(root, layouts, dataset.name)
    paths = _paths(files)
    check_published(paths, layout.published)
    check_listed(Path(root).expanduser(), paths)
    splits = dict(layout.read(files, dataset))
    if "val" not in splits:
        splits["train"], splits["val"] = held_out(splits["train"], hold_out)
    return splits


def fingerprint_any(root: str, layouts: Sequence[Layout], name: str) -> str:
    """The fingerprint of the files that `read_any` would read.

    Raises:
        ConfigError: as `detect`.
    """
    _, files = detect(root, layouts, name)
    return fingerprint(_paths(files), Path(root).expanduser())


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


def _paths(files: Files) -> list[Path]:
    return [path for split in files.values() for path in split]
