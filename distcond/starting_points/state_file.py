"""Read what a file of weights holds, without ever running code from it."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from distcond.errors import ConfigError


def read_file(path: Path) -> Any:
    """The content of a `.safetensors` file, or of any other as `torch.save` wrote it, on the CPU.

    Raises:
        ConfigError: it is neither, it is broken, or reading it would mean to run code from it.
    """
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if not zipfile.is_zipfile(path) and path.read_bytes()[:1] != b"\x80":
        raise ConfigError("not readable: neither a file of torch.save nor called .safetensors")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        mend = "save its state_dict alone: torch.save(model.state_dict(), FILE)"
        raise ConfigError(f"holds more than tensors, which is not unpickled; {mend}") from error
    except Exception as error:  # a damaged file raises anything
        raise ConfigError(f"not readable as a file of torch.save ({_first_line(error)})") from error


def _read_safetensors(path: Path) -> Any:
    try:
        from safetensors.torch import load_file
    except ImportError as error:
        raise ConfigError(f"safetensors does not import ({error}); pip install safetensors, or give a .pth") from error
    try:
        return load_file(path)
    except Exception as error:  # its own type, which is not the same in all versions
        raise ConfigError(f"not readable as safetensors ({_first_line(error)})") from error


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
