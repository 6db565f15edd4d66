"""Reads the code matrix of a run (`method.code_file`), such as rand_otho_mat.npy of OAT's authors.

The authors draw their matrix anew in every run and keep it in a file beside the weights, so a checkpoint of theirs
means nothing without it. Row j is the code of `method.lam_choices[j]`. Only the first start of a run reads the file, as
the codes are saved with the network.
"""

from __future__ import annotations

import hashlib
import socket
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from distcond.errors import ConfigError
from distcond.layers.encode import Codebook
from distcond.models.conditional import ConditionalModel
from distcond.path_errors import name_setting_in_errors

#: Numbers in a file that is read at most: dimensions squared.
_MAX_NUMBERS = 1 << 24


def read_code_matrix(file: str) -> Tensor:
    """The matrix (rows, dim) float64 in a .npy file. Nothing is unpickled.

    Raises:
        ConfigError: it cannot be read, or is not a matrix of finite numbers.
    """
    with name_setting_in_errors({"method.code_file": file}):
        path = Path(file).expanduser().absolute()
        if not path.is_file():
            valid = "name a .npy that every worker can read"
            raise ConfigError(f"method.code_file={file}: no such file on {socket.gethostname()}; {valid}")
        try:
            found = np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise ConfigError(f"method.code_file={file}: not a readable .npy file of numbers ({error})") from error
    if not isinstance(found, np.ndarray) or found.ndim != 2 or found.dtype.kind not in "fiu":
        raise ConfigError(f"method.code_file={file}: not a matrix of numbers; needed: one code per row")
    if found.size > _MAX_NUMBERS:
        raise ConfigError(f"method.code_file={file}: {found.shape} is no code matrix; needed: method.dim columns")
    matrix = torch.from_numpy(np.array(found, dtype=np.float64))
    if not bool(matrix.isfinite().all()):
        raise ConfigError(f"method.code_file={file}: has values that are not finite")
    return matrix


def copy_codes_into(model: ConditionalModel, file: str) -> str:
    """Copy the codes of a file into the encoder of `model`; returns 16 hex digits of the matrix' content.

    Raises:
        ConfigError: as `read_code_matrix`, or the matrix does not fit `method.dim` and `method.lam_choices`.
    """
    encoder, matrix = model.encode, read_code_matrix(file)
    if not isinstance(encoder, Codebook) or encoder.kind != "rand":
        raise ConfigError(f"method.code_file={file}: codes from a file need method.encoding=rand")
    try:
        encoder.set_matrix(matrix)
    except ConfigError as error:
        raise ConfigError(f"method.code_file={file}: {error}") from error
    return hashlib.blake2b(repr(tuple(matrix.shape)).encode() + matrix.numpy().tobytes(), digest_size=8).hexdigest()
