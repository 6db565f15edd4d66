"""What lies in a folder of images: the images by name, and everything else, so that nothing is left out unsaid."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from distcond.errors import ConfigError

#: Read where Pillow is missing, only to say that it is.
_USUAL = (".png", ".webp", ".jpg", ".jpeg", ".bmp")
#: What Pillow knows by name without being able to decode it alone.
_STUBS = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}
#: Formats that a file says in its first bytes, whatever it is called.
_SIGNED = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "JPEG2000", "AVIF", "QOI")
#: Left by systems and tools in every folder that they show.
_LITTER = ("thumbs.db", "desktop.ini")
#: Of these a folder may hold some hundred thousand: so many are looked at to tell whether there are images below.
_DEEP = 10_000

#: What is no file and is named as an image, by whether all of it are links.
_NO_FILES = {True: "links that lead nowhere", False: "no files (pipes, sockets or links that lead nowhere)"}


class Entries(NamedTuple):
    """Names of the images of a folder, sorted, and of what was not understood."""

    images: list[str]
    others: list[str]


def scan_image_folder(folder: Path) -> Entries:
    """Look at a folder of images.

    Raises:
        ConfigError: images would be lost: links to images that lead nowhere, pipes and sockets that are named as
            images, or images in folders below.
    """
    images, others, lost = list[str](), list[str](), list[str]()
    for entry in _listed(folder) if folder.is_dir() else []:
        if _is_file(entry):
            (images if _is_image(entry) else others).append(entry.name)
        elif _is_dir(entry):
            (lost if _holds_images(Path(entry.path)) else others).append(f"{entry.name}/")
        else:
            (lost if _perhaps_image(entry.name) else others).append(entry.name)
    if lost:
        below = [name for name in lost if name.endswith("/")]
        links = all(os.path.islink(folder / name) for name in lost)
        what = "folders of images below a class" if below else _NO_FILES[links]
        raise ConfigError(
            f"data.root: {folder} has {count_and_first(below or lost)}: {what}; move the images into it, or remove"
        )
    return Entries(images, others)


def scan_class_folders(folder: Path) -> tuple[list[str], list[str]]:
    """The names of the folders of classes in a split, sorted, and of everything else.

    Raises:
        ConfigError: a link to a class leads nowhere.
    """
    found = _listed(folder)
    dangling = [entry.name for entry in found if entry.is_symlink() and not os.path.exists(entry.path)]
    if dangling:
        raise ConfigError(
            f"data.root: {folder} has {count_and_first(dangling)}: links that lead nowhere; mend or remove"
        )
    classes = [entry.name for entry in found if _is_dir(entry)]
    return classes, [entry.name for entry in found if not _is_dir(entry)]


def count_and_first(names: Sequence[str]) -> str:
    """So many names and the first of them."""
    first = printable(names[0])
    return first if len(names) == 1 else f"{len(names)} entries such as {first}"


def printable(name: str) -> str:
    """A file's name whose bytes need not be UTF-8."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def image_suffixes() -> tuple[str, ...]:
    """What the names of images end with: everything that the installed Pillow reads."""
    return _formats()[0] or _USUAL


def _listed(folder: Path) -> list[os.DirEntry[str]]:
    """Entries by name; of hidden ones only images, which may have been meant."""
    try:
        with os.scandir(folder) as entries:
            return sorted((entry for entry in entries if not _litter(entry.name)), key=lambda entry: entry.name)
    except OSError as error:
        raise ConfigError(f"data.root: {folder} cannot be read ({error.strerror})") from error


def _litter(name: str) -> bool:
    return name.lower() in _LITTER or (name[0] == "." and (name.startswith("._") or not _named_as_image(name)))


# Links that lead nowhere, or round in a circle, are neither.
def _is_file(entry: os.DirEntry[str]) -> bool:
    return os.path.isfile(entry.path) if entry.is_symlink() else entry.is_file()


def _is_dir(entry: os.DirEntry[str]) -> bool:
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()


def _named_as_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in image_suffixes()


def _perhaps_image(name: str) -> bool:
    return _named_as_image(name) or not os.path.splitext(name)[1]


def _is_image(entry: os.DirEntry[str]) -> bool:
    """By its suffix; of a file with another one or none, by its first bytes."""
    return entry.name[0] != "." and (_named_as_image(entry.name) or _signed(entry.path))


def _signed(path: str) -> bool:
    formats = _formats()[1]
    if not formats:
        return False
    from PIL import Image

    try:
        with Image.open(path, formats=formats):
            return True
    except Exception:  # whatever is in there
        return False


def _holds_images(folder: Path) -> bool:
    return any(_named_as_image(name) for name in _names_below(folder))


def _names_below(folder: Path) -> Iterator[str]:
    seen = 0
    for _, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name[0] != "."]
        yield from names
        seen += len(names)
        if seen > _DEEP:
            return


@cache
def _formats() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Suffixes of the images that Pillow reads, and the formats that sign their files; empty without it."""
    try:
        from PIL import Image
    except ImportError:
        return (), ()
    Image.init()
    readable = set(Image.OPEN) - _STUBS
    named = {suffix for suffix, kind in Image.registered_extensions().items() if kind in readable}
    return tuple(sorted(named)), tuple(kind for kind in _SIGNED if kind in readable)
