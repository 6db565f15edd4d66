"""One checkpoint format under every launcher: a directory with a shared part and a part per rank.

    checkpoints/epoch-0012/shared.pt     model, optimiser, position, history of the run (rank 0)
    checkpoints/epoch-0012/rank-0000.pt  running statistics, which differ between ranks and steer the eval-mode attack

The directory is written aside and renamed once every rank has written, so a directory by that name is complete.
All randomness is keyed by (seed, epoch, step), so no generator state has to be kept. Nothing is ever unpickled:
`torch.load(weights_only=True)`.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from distcond.engine.world import World
from distcond.errors import ConfigError

SCHEMA_VERSION = 1
_NAME = re.compile(r"epoch-(\d{4,})")
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def statistics(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The running statistics of every normalisation in a state_dict: what differs between ranks."""
    return {name: tensor for name, tensor in state.items() if name.endswith(_STATISTICS)}


def averageable(model: nn.Module) -> dict[str, Tensor]:
    """What an average of networks is made of, by state_dict name: parameters and running means and variances."""
    parameters = dict(model.named_parameters())
    return {
        name: tensor
        for name, tensor in model.state_dict(keep_vars=True).items()
        if name in parameters or (name.endswith(_STATISTICS) and tensor.is_floating_point())
    }


def save(
    root: Path,
    epoch: int,
    world: World,
    model: nn.Module,
    shared: dict[str, Any],
    averaged: Mapping[str, Tensor] | None = None,
) -> Path:
    """Write the checkpoint of `epoch` from all ranks together.

    `shared` is rank 0's, plain values and tensors; `averaged` holds this rank's averaged running statistics.

    Saving changes nothing about the run: no statistic is synchronised because a checkpoint was due.
    """
    final, aside = root / f"epoch-{epoch:04d}", root / f".epoch-{epoch:04d}"
    if world.first:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
    world.barrier()
    own = {"statistics": statistics(model.state_dict()), "averaged": dict(averaged or {})}
    _write(aside / f"rank-{world.rank:04d}.pt", own)
    if world.first:
        state = {"schema_version": SCHEMA_VERSION, "world_size": world.size, "epoch": epoch}
        _write(aside / "shared.pt", {**state, "model": model.state_dict(), **shared})
    world.barrier()
    if world.first:
        shutil.rmtree(final, ignore_errors=True)
        os.rename(aside, final)
    world.barrier()
    return final


def newest(root: Path) -> Path | None:
    """The complete checkpoint of the highest epoch, or None."""
    found = [entry for entry in root.iterdir() if _NAME.fullmatch(entry.name)] if root.is_dir() else []
    return max(found, key=epoch_of, default=None)


def epoch_of(checkpoint: Path) -> int:
    """Epochs completed at a checkpoint."""
    match = _NAME.fullmatch(checkpoint.name)
    assert match is not None, checkpoint
    return int(match.group(1))


def load_shared(checkpoint: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Rank 0's part.

    Raises:
        ConfigError: truncated, or of another schema version.
    """
    state = _read(checkpoint / "shared.pt", device)
    if state.get("schema_version") != SCHEMA_VERSION:
        version = state.get("schema_version")
        raise ConfigError(f"{checkpoint}: checkpoint schema {version!r}; this distcond reads {SCHEMA_VERSION}")
    return state


def load_statistics(
    checkpoint: Path, rank: int, device: torch.device | str = "cpu", which: str = "statistics"
) -> dict[str, Tensor]:
    """One rank's running statistics, or `which` = "averaged" ones; with more ranks than parts, they are dealt round."""
    parts = _parts(checkpoint)
    found: dict[str, Tensor] = _read(parts[rank % len(parts)], device)[which]
    return found


def averaged_statistics(checkpoint: Path, which: str = "statistics") -> dict[str, Tensor]:
    """The mean over ranks of the running statistics: what the one network of a run is evaluated with."""
    parts = [_read(part, "cpu")[which] for part in _parts(checkpoint)]
    return {name: average([part[name] for part in parts]) for name in parts[0]}


def _parts(checkpoint: Path) -> list[Path]:
    parts = sorted(checkpoint.glob("rank-*.pt"))
    if not parts:
        raise ConfigError(f"{checkpoint}: not a whole checkpoint (no rank-*.pt); delete its directory to go on")
    return parts


def average(tensors: list[Tensor]) -> Tensor:
    """Mean in the order given; counters keep the first value."""
    return torch.stack(tensors).mean(0) if tensors[0].is_floating_point() else tensors[0]


def keep_only(root: Path, epochs: set[int]) -> None:
    """Delete complete checkpoints of other epochs, and whatever a killed save left behind."""
    for entry in list(root.iterdir()):
        match = _NAME.fullmatch(entry.name)
        if entry.name.startswith(".epoch-") or (match is not None and int(match.group(1)) not in epochs):
            shutil.rmtree(entry, ignore_errors=True)


def _write(path: Path, state: dict[str, Any]) -> None:
    torch.save(state, path)


def _read(path: Path, device: torch.device | str) -> dict[str, Any]:
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:
        first = str(error).splitlines()[0] if str(error) else ""
        # torch's own words on what it will not unpickle recommend to unpickle it.
        reason = "damaged" if not first or ("eights" in first and "only" in first) else first
        raise ConfigError(f"{path}: not a readable checkpoint ({reason}); delete its directory to go on") from error
    return state
