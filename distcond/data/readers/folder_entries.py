"""Scans folders of images and of classes. Entries that are no images are reported, never dropped silently."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from distcond.errors import ConfigError

#: Suffixes to look for without Pillow, so that its absence is reported instead of an empty folder.
_DEFAULT_SUFFIXES = (".png", ".webp", ".jpg", ".jpeg", ".bmp")
#: Formats that Pillow registers but cannot decode by itself.
_STUB_FORMATS = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}
#: Formats recognised by their first bytes, whatever the file is called.
_FORMATS_WITH_SIGNATURE = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "JPEG2000", "AVIF", "QOI")
#: Files that operating systems leave in folders.
_SYSTEM_FILES = ("thumbs.db", "desktop.ini")
#: How many files below a folder are checked for images.
_MAX_CHECKED = 10_000

#: Entries that are no files but are named like images, by whether all of them are links.
_NOT_FILES = {True: "broken links", False: "not files (pipes, sockets or broken links)"}


class Entries(NamedTuple):
    """Sorted names of the images in a folder, and of all other entries."""

    images: list[str]
    others: list[str]


def scan_image_folder(folder: Path) -> Entries:
    """The entries of a folder of images; empty if there is no such folder.

    Raises:
        ConfigError: images would be missed: broken links, pipes or sockets named like images, or images in subfolders.
    """
    images, others, lost = list[str](), list[str](), list[str]()
    for entry in _visible_entries(folder) if folder.is_dir() else []:
        if _is_file(entry):
            (images if _is_image(entry) else others).append(entry.name)
        elif _is_dir(entry):
            (lost if _holds_images(Path(entry.path)) else others).append(f"{entry.name}/")
        else:
            (lost if _possibly_image(entry.name) else others).append(entry.name)
    if lost:
        below = [name for name in lost if name.endswith("/")]
        links = all(os.path.islink(folder / name) for name in lost)
        what = "folders of images below a class" if below else _NOT_FILES[links]
        raise ConfigError(
            f"data.root: {folder} has {summarise_names(below or lost)}: {what}; move the images into it, or remove"
        )
    return Entries(images, others)


def scan_class_folders(folder: Path) -> tuple[list[str], list[str]]:
    """Sorted names of the class folders of a split, and of all other entries.

    Raises:
        ConfigError: a link to a class is broken.
    """
    entries = _visible_entries(folder)
    broken = [entry.name for entry in entries if entry.is_symlink() and not os.path.exists(entry.path)]
    if broken:
        raise ConfigError(f"data.root: {folder} has {summarise_names(broken)}: broken links; fix or remove them")
    classes = [entry.name for entry in entries if _is_dir(entry)]
    return classes, [entry.name for entry in entries if not _is_dir(entry)]


def summarise_names(names: Sequence[str]) -> str:
    """The number of names and the first one, for a message."""
    first = printable_name(names[0])
    return first if len(names) == 1 else f"{len(names)} entries such as {first}"


def printable_name(name: str) -> str:
    """A file name as text; bytes that are not UTF-8 are escaped."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def image_suffixes() -> tuple[str, ...]:
    """Suffixes of images: all that the installed Pillow reads."""
    return _pillow_formats()[0] or _DEFAULT_SUFFIXES


def _visible_entries(folder: Path) -> list[os.DirEntry[str]]:
    """Entries sorted by name. Hidden entries only if they are named like images, so that they get reported."""
    try:
        with os.scandir(folder) as entries:
            return sorted((entry for entry in entries if not _is_clutter(entry.name)), key=lambda entry: entry.name)
    except OSError as error:
        raise ConfigError(f"data.root: {folder} cannot be read ({error.strerror})") from error


def _is_clutter(name: str) -> bool:
    return name.lower() in _SYSTEM_FILES or (name[0] == "." and (name.startswith("._") or not _named_as_image(name)))


# Broken and circular links are neither.
def _is_file(entry: os.DirEntry[str]) -> bool:
    return os.path.isfile(entry.path) if entry.is_symlink() else entry.is_file()


def _is_dir(entry: os.DirEntry[str]) -> bool:
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()


def _named_as_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in image_suffixes()


def _possibly_image(name: str) -> bool:
    return _named_as_image(name) or not os.path.splitext(name)[1]


def _is_image(entry: os.DirEntry[str]) -> bool:
    """By suffix, else by the first bytes."""
    return entry.name[0] != "." and (_named_as_image(entry.name) or _has_signature(entry.path))


def _has_signature(path: str) -> bool:
    formats = _pillow_formats()[1]
    if not formats:
        return False
    from PIL import Image

    try:
        with Image.open(path, formats=formats):
            return True
    except Exception:  # Pillow raises anything on foreign content
        return False


def _holds_images(folder: Path) -> bool:
    return any(_named_as_image(name) for name in _file_names_below(folder))


def _file_names_below(folder: Path) -> Iterator[str]:
    count = 0
    for _, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name[0] != "."]
        yield from names
        count += len(names)
        if count > _MAX_CHECKED:
            return


@cache
def _pillow_formats() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Suffixes of the images that Pillow reads, and its formats with a signature; empty without Pillow."""
    try:
        from PIL import Image
    except ImportError:
        return (), ()
    Image.init()
    readable = set(Image.OPEN) - _STUB_FORMATS
    suffixes = {suffix for suffix, kind in Image.registered_extensions().items() if kind in readable}
    return tuple(sorted(suffixes)), tuple(kind for kind in _FORMATS_WITH_SIGNATURE if kind in readable)
