"""The ways one data set lies on disk: each is a value that recognises its files and reads them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from distcond.data.checksums import PublishedFile, check_listed, check_published, fingerprint
from distcond.data.dataset import Arrays, Dataset, Split
from distcond.data.splits import HoldOut, hold_out_last, split_off_validation
from distcond.errors import ConfigError

LAST_TENTH = hold_out_last(Fraction(1, 10))
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
        named: files -> those that they name and that hold the images.
        notes: root and its files -> a line on what lies there and is not read; empty where there is nothing.
        classes: files -> the names of the classes in the order of their numbers; empty where files do not name them.
    """

    accepts: str
    find: Callable[[Path], Files | None]
    read: Callable[[Files, Dataset], Mapping[str, Split]]
    published: Mapping[str, PublishedFile] = field(default_factory=dict)
    classes: Callable[[Files], Sequence[str]] = lambda files: ()
    named: Callable[[Files], Sequence[Path]] = lambda files: ()
    notes: Callable[[Path, Files], Sequence[str]] = lambda root, files: ()


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
    for split, content in splits.items():
        _check_lengths(content, f"data.root: {dataset.name} {split} in {root}")
    if "val" not in splits:
        splits["train"], splits["val"] = split_off_validation(splits["train"], hold_out)
    return splits


def classes_any(root: str, layouts: Sequence[Layout], name: str) -> tuple[str, ...]:
    """The names of the classes in the order of their numbers, as far as the files have them.

    Raises:
        ConfigError: as `detect`.
    """
    layout, files = detect(root, layouts, name)
    return tuple(layout.classes(files))


def notes_any(root: str, layouts: Sequence[Layout], name: str) -> tuple[str, ...]:
    """What to know about a root before it is read: what in it is not.

    Raises:
        ConfigError: as `detect`.
    """
    layout, files = detect(root, layouts, name)
    return tuple(layout.notes(Path(root).expanduser(), files))


def _check_lengths(content: Split, what: str) -> None:
    # Before any are held out, which would cut the longer to the shorter.
    if isinstance(content, Arrays) and len(content.images) != len(content.labels):
        raise ConfigError(f"{what}: {len(content.images)} images, but {len(content.labels)} labels; one each is needed")


def fingerprint_any(root: str, layouts: Sequence[Layout], name: str) -> str:
    """The fingerprint of the files that `read_any` would read.

    Raises:
        ConfigError: as `detect`.
    """
    layout, files = detect(root, layouts, name)
    return fingerprint([*_paths(files), *layout.named(files)], Path(root).expanduser())


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
