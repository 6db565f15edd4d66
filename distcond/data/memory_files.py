"""The files behind the in-memory loader: the images and labels of a split as two plain .npy files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from distcond.aside import written_aside
from distcond.data.dataset import Arrays
from distcond.data.stored import Stored

SUFFIXES = (".images.npy", ".labels.npy")


def write_arrays(folder: Path, split: str, content: Stored) -> None:
    """Write one split into `folder`, decoded, a block at a time."""
    images, labels = (folder / f"{split}{suffix}" for suffix in SUFFIXES)
    header = {"descr": "|u1", "fortran_order": False, "shape": (len(content.labels), *content.shape)}
    with written_aside(images) as aside, open(aside, "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for block in content.pixels():
            file.write(np.ascontiguousarray(block).data)
    with written_aside(labels) as aside, open(aside, "wb") as file:
        np.save(file, content.labels)


def mapped(folder: Path, split: str) -> Arrays:
    """The split in `folder`, mapped: the ranks of one machine share the pages."""
    # Copy-on-write, for torch to get memory that it may call writable.
    return Arrays(*(np.load(folder / f"{split}{suffix}", mmap_mode="c") for suffix in SUFFIXES))
