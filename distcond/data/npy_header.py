"""What an archive of arrays says it holds, read before it is unfolded: kilobytes can become gigabytes."""

from __future__ import annotations

import math
import zipfile
from typing import NamedTuple

import numpy as np

from distcond.errors import ConfigError


class Header(NamedTuple):
    """The beginning of an .npy file."""

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def nbytes(self) -> int:
        """Bytes of the array."""
        return math.prod(self.shape) * self.dtype.itemsize


def header_of(archive: zipfile.ZipFile, member: str) -> Header:
    """The header of an array in an .npz.

    Raises:
        KeyError: no such member.
        ValueError: it is no array of numbers, or its size is not that which the archive states.
    """
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
        begin = file.tell()
    found, stated = Header(shape, dtype), archive.getinfo(member).file_size
    if dtype.hasobject:
        raise ValueError(f"{member} holds Python objects, which are not read")
    if begin + found.nbytes != stated:
        raise ValueError(f"{member} is {stated} bytes in place of the {begin + found.nbytes} of {dtype} {shape}")
    return found


def check_size(nbytes: int, most: int, what: str) -> None:
    """Refuse an array that cannot be what it is taken for.

    Args:
        nbytes: what it would take.
        most: what it takes at most.
        what: which array, for the message.

    Raises:
        ConfigError: it is larger.
    """
    if nbytes > most:
        raise ConfigError(
            f"{what} would unfold to {nbytes / 1e9:.3g} GB; such an array has at most {most / 1e9:.3g} GB"
        )
