"""On-disk layouts of a data set: how its files are recognised, read and fingerprinted.

`with_layouts` gives a `Dataset` its functions of a root. A process lists a root and hashes its files once: the result
is kept until a folder or a file of the root changes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import NoReturn

from distcond.data.checksums import PublishedFile, check_listed, check_published, fingerprint
from distcond.data.dataset import Arrays, Dataset, InferredSizes, Split
from distcond.data.splits import HoldOut, hold_out_last, split_off_validation
from distcond.errors import ConfigError

LAST_TENTH = hold_out_last(Fraction(1, 10))
#: Above this many files, a root's listing is not kept (a million paths take 300 MB), and files edited in place go
#: unnoticed; added, removed and renamed files are always noticed.
MAX_KEPT_FILES = 50_000
#: "train", "test" and possibly "val" -> the files of that split, in reading order.
Files = Mapping[str, Sequence[Path]]


@dataclass(frozen=True)
class Layout:
    """One way in which a data set lies on disk.

    Attributes:
        accepts: what a root of this layout holds, for error messages.
        find: root -> its files; None if the root has another layout.
        read: files and data set -> splits, in an order that depends on the files alone. Labels are below
            `num_classes`, unless that is 0.
        published: the original files by name.
        classes: files -> class names in the order of their labels; empty if the files do not name them.
        linked: files -> image files that they refer to by path.
        notes: root and its files -> lines about entries that are ignored.
    """

    accepts: str
    find: Callable[[Path], Files | None]
    read: Callable[[Files, Dataset], Mapping[str, Split]]
    published: Mapping[str, PublishedFile] = field(default_factory=dict)
    classes: Callable[[Files], Sequence[str]] = lambda files: ()
    linked: Callable[[Files], Sequence[Path]] = lambda files: ()
    notes: Callable[[Path, Files], Sequence[str]] = lambda root, files: ()


def with_layouts(
    dataset: Dataset,
    layouts: Sequence[Layout],
    hold_out: HoldOut = LAST_TENTH,
    class_names: Sequence[str] = (),
    infer_sizes: Callable[[DatasetFiles], InferredSizes] | None = None,
) -> Dataset:
    """`dataset` with functions of a root for files in one of `layouts`, tried in order.

    Args:
        dataset: the description; its own `read` and `fingerprint` are replaced.
        layouts: accepted layouts.
        hold_out: chooses the validation images if the files have no "val" split.
        class_names: used if the files name no classes.
        infer_sizes: the files -> sizes that `dataset` leaves at 0.
    """
    reader = _RootReader(dataset, layouts)
    return replace(
        dataset,
        read=lambda root: reader.find(root).read(hold_out),
        fingerprint=lambda root: reader.find(root).fingerprint,
        classes=lambda root: reader.find(root).classes or tuple(class_names),
        notes=lambda root: reader.find(root).notes,
        infer_sizes=None if infer_sizes is None else lambda root: infer_sizes(reader.find(root)),
    )


def needs_layouts(root: str) -> NoReturn:
    """Placeholder for `Dataset.read` and `Dataset.fingerprint` until `with_layouts` replaces them."""
    raise NotImplementedError("this data set has no layouts")


class DatasetFiles:
    """A data set in one root: its layout, its files and what follows from them. Each value is computed once."""

    def __init__(self, dataset: Dataset, root: Path, layout: Layout, files: Files) -> None:
        self.dataset, self.root, self.layout = dataset, root, layout
        self._files: Files | None = files
        self._encoded: dict[str, Split] | None = None
        self._stamps: dict[Path, object] = {}
        paths = _flatten(files)
        self.num_files = len(paths)
        self._watch({root, *_subfolders(root), *(path.parent for path in paths)})
        self._watch_files(paths)

    @property
    def files(self) -> Files:
        """Files of each split. A large root is listed again if its listing was dropped."""
        files = self._files or self.layout.find(self.root)
        if not files:
            raise ConfigError(f"data.root: the files in {self.root} disappeared while they were read")
        return files

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits from the names, sizes and content of the files."""
        paths, linked = _flatten(self.files), list(self.layout.linked(self.files))
        self._watch_files(linked)
        digest = fingerprint([*paths, *linked], self.root)
        if self.num_files > MAX_KEPT_FILES:
            _ = self.classes  # needs the listing
            self._files = self._encoded = None
        return digest

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of their labels, if the files name them."""
        return tuple(self.layout.classes(self.files))

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """Lines about entries of the root that are ignored."""
        return tuple(self.layout.notes(self.root, self.files))

    def splits(self) -> dict[str, Split]:
        """The splits that the files have. Encoded ones are kept: they hold labels and paths, no pixels."""
        return self._split(self.files)

    def read(self, hold_out: HoldOut) -> dict[str, Split]:
        """The three splits; "val" is held out of "train" if the files have none.

        Raises:
            ConfigError: the files are damaged.
        """
        files = self.files
        check_published(_flatten(files), self.layout.published)
        check_listed(self.root, _flatten(files))
        splits = self._split(files)
        for split, content in splits.items():
            _check_lengths(content, f"data.root: {self.dataset.name} {split} in {self.root}")
        if "val" not in splits:
            splits["train"], splits["val"] = split_off_validation(splits["train"], hold_out)
        return splits

    def _split(self, files: Files) -> dict[str, Split]:
        if self._encoded is not None:
            return dict(self._encoded)
        splits = dict(self.layout.read(files, self.dataset))
        if self._files is not None and not any(isinstance(split, Arrays) for split in splits.values()):
            self._encoded = splits
        return dict(splits)

    def unchanged(self) -> bool:
        """Whether the watched folders and files are as they were."""
        return all(_stamp(path) == stamp for path, stamp in self._stamps.items())

    def _watch_files(self, paths: Sequence[Path]) -> None:
        if len(paths) <= MAX_KEPT_FILES:
            self._watch(paths)

    def _watch(self, paths: Iterable[Path]) -> None:
        self._stamps.update((path, _stamp(path)) for path in paths)


class _RootReader:
    """Finds the files of one data set and keeps those of the last root."""

    def __init__(self, dataset: Dataset, layouts: Sequence[Layout]) -> None:
        self._dataset, self._layouts = dataset, layouts
        self._last: tuple[str, DatasetFiles] | None = None

    def find(self, root: str) -> DatasetFiles:
        """The files in `root`.

        Raises:
            ConfigError: the root has none of the layouts.
        """
        if self._last is None or self._last[0] != root or not self._last[1].unchanged():
            self._last = None  # frees the old listing first
            self._last = root, detect(root, self._layouts, self._dataset)
        return self._last[1]


def detect(root: str, layouts: Sequence[Layout], dataset: Dataset) -> DatasetFiles:
    """The files of `dataset` in `root`, in the first of `layouts` that the root has.

    Raises:
        ConfigError: the root is empty, no folder, or has none of the layouts.
    """
    name, accepted = dataset.name, "; ".join(layout.accepts for layout in layouts)
    if not root:
        raise ConfigError(f"data.root is empty: {name} needs data.root=FOLDER, which holds one of: {accepted}")
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise ConfigError(f"data.root={root} is not a folder; {name} needs one that holds one of: {accepted}")
    for layout in layouts:
        if files := layout.find(folder):
            return DatasetFiles(dataset, folder, layout, files)
    raise ConfigError(f"data.root={root} does not hold {name} in a known layout; accepted: {accepted}")


def _check_lengths(content: Split, what: str) -> None:
    # Checked before the hold-out, which would cut the longer array to the shorter.
    if isinstance(content, Arrays) and len(content.images) != len(content.labels):
        raise ConfigError(f"{what}: {len(content.images)} images, but {len(content.labels)} labels; needed: one each")


def _flatten(files: Files) -> list[Path]:
    return [path for split in files.values() for path in split]


def _subfolders(root: Path) -> list[Path]:
    with os.scandir(root) as entries:
        return [Path(entry.path) for entry in entries if entry.is_dir()]


def _stamp(path: Path) -> object:
    """Changes when a file is written, or when an entry of a folder is added, removed or renamed."""
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns
