"""The folder of one export: checked before anything is folded, and replaced as a whole once it is written."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from torch import fx

from distcond.errors import ConfigError
from distcond.exporting.card import CARD_FILE, LEADERBOARD_FILE
from distcond.exporting.folder import CONFIG_FILE, WEIGHTS_FILE, ExportConfig, read_config, write_config, write_weights
from distcond.exporting.programs import ONNX_FILE, PT2_FILE, write_onnx, write_pt2
from distcond.exporting.torchvision import TORCHVISION_FILE, write_torchvision
from distcond.operating_point import OperatingPoint

OWN_FILES = {CONFIG_FILE, WEIGHTS_FILE, PT2_FILE, ONNX_FILE, TORCHVISION_FILE, CARD_FILE, LEADERBOARD_FILE}


def check_target(folder: Path, export: ExportConfig) -> None:
    """Check that a folder is empty or holds an export of the same network, which is then replaced.

    Raises:
        ConfigError: it holds something else.
    """
    if not folder.is_dir() or folder.is_symlink():
        if folder.exists() or folder.is_symlink():
            raise ConfigError(f"out={folder}: not a folder; name another one or remove it")
        return
    names = {path.name for path in folder.iterdir()}
    if not names:
        return
    there = read_config(folder) if CONFIG_FILE in names and names <= OWN_FILES else None
    same = there is not None and (there.operating_point, there.provenance.get("run_id")) == (
        export.operating_point,
        export.provenance["run_id"],
    )
    if not same:
        raise ConfigError(f"out={folder}: holds something else; name another folder or remove it")


@contextmanager
def replace_folder(folder: Path) -> Iterator[Path]:
    """Yield a hidden folder to write to; it replaces `folder` at the end of the block."""
    temporary, old = (folder.with_name(f".{folder.name}.{os.getpid()}.{what}") for what in ("tmp", "old"))
    try:
        temporary.mkdir(parents=True)
        yield temporary
        if folder.exists():
            folder.rename(old)
        temporary.rename(folder)
    except OSError as error:
        raise ConfigError(f"out={folder}: cannot be written ({error.strerror or error})") from error
    finally:
        if old.exists() and not folder.exists():
            old.rename(folder)
        for left in (temporary, old):
            shutil.rmtree(left, ignore_errors=True)


def require_finite(network: fx.GraphModule, point: OperatingPoint) -> None:
    """Check that a network has weights to export.

    Raises:
        ConfigError: some are infinite or not numbers.
    """
    if not all(bool(value.isfinite().all()) for value in network.state_dict().values()):
        raise ConfigError(f"{point}: the network has weights that are not finite; its training has diverged")


def write_files(network: fx.GraphModule, export: ExportConfig, folder: Path, formats: Sequence[str]) -> list[str]:
    """Write the export in the given formats; returns the names of the files."""
    write_config(export, folder)
    files = [CONFIG_FILE]
    if "safetensors" in formats:
        write_weights(network, folder)
        files.append(WEIGHTS_FILE)
    if "pt2" in formats:
        write_pt2(network, folder / PT2_FILE, export.image_size)
        files.append(PT2_FILE)
    if "onnx" in formats:
        write_onnx(network, folder / ONNX_FILE, export.image_size)
        files.append(ONNX_FILE)
    if "torchvision" in formats:
        write_torchvision(network, export, folder)
        files.append(TORCHVISION_FILE)
    return files
