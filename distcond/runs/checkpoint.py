"""The checkpoint format, the same under every launcher: a directory with a shared part and a part per rank.

    checkpoints/epoch-0012/shared.pt     model, optimiser, position, best checkpoint so far (rank 0)
    checkpoints/epoch-0012/rank-0000.pt  what differs between ranks: running statistics, which affect the eval-mode
                                         attack, and the sums of an epoch in progress
    checkpoints/epoch-0012/history.jsonl the run's history so far (rank 0)
    checkpoints/epoch-0012-step-000340   the same within the 13th epoch

A directory is written under a hidden name and renamed once every rank has written, so a visible one is complete.
All randomness is keyed by (seed, epoch, step), so no generator state is saved. Nothing is unpickled:
`torch.load(weights_only=True)`.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from distcond.atomic_io import file_lock, fsync_file, make_folder
from distcond.disk_space import name_full_disk
from distcond.distributed.running_statistics import pool_over_ranks, running_statistics
from distcond.distributed.world import World
from distcond.errors import ConfigError
from distcond.run_layout import HISTORY_FILE, SHARED_FILE, rank_file

SCHEMA_VERSION = 2
#: Versions from which the network can be loaded. Training resumes from `SCHEMA_VERSION` only.
READABLE = (1, 2)
_LOCK = ".checkpoints.lock"
_NAME = re.compile(r"epoch-(\d{4,})(?:-step-(\d{6,}))?")


class Position(NamedTuple):
    """Where the training of a run is.

    Past the last stage, the run is trained. With all steps of an epoch done, its validation comes next.
    """

    stage: int = 0
    epoch: int = 0  # completed epochs of the stage
    done: int = 0  # completed epochs of the run
    step: int = 0  # completed steps of the current epoch


class CheckpointStep(NamedTuple):
    """Where in a run a checkpoint was made: completed epochs, and steps of the next one."""

    epoch: int
    step: int = 0

    @property
    def name(self) -> str:
        """Name of the checkpoint's directory."""
        return f"epoch-{self.epoch:04d}" + (f"-step-{self.step:06d}" if self.step else "")


def save_checkpoint(
    root: Path,
    at: CheckpointStep,
    world: World,
    model: nn.Module,
    shared: dict[str, Any],
    rank_state: Mapping[str, Any],
    local_parts: bool = False,
    history: str = "",
) -> Path:
    """Write a checkpoint. Collective. If a rank cannot write its part, nothing is left behind.

    Saving does not change the run: no statistics are synchronised.

    Args:
        root: directory of the run's checkpoints.
        at: where in the run.
        world: the ranks.
        model: the network.
        shared: rank 0's state besides the weights: plain values and tensors.
        rank_state: this rank's state besides its running statistics: plain values and tensors.
        local_parts: whether every machine has its own `root`, which holds the parts of its ranks.
        history: of rank 0, the text of the run's history, which is kept in the checkpoint.

    Returns:
        The checkpoint's directory.
    """
    final, partial = root / at.name, root / f".{at.name}"
    manages_dir = world.first or local_parts
    if manages_dir:
        with file_lock(root.with_name(_LOCK)):
            shutil.rmtree(partial, ignore_errors=True)
            make_folder(partial)
    world.barrier()
    try:
        _save_parts(partial, at, world, model, shared, rank_state)
        if world.first and history:
            with name_full_disk(partial.parent, len(history)):
                (partial / HISTORY_FILE).write_text(history, encoding="utf-8")
                fsync_file(partial / HISTORY_FILE)
    except Exception:
        # On a full disk the space is needed for the error report.
        shutil.rmtree(partial, ignore_errors=True)
        raise
    world.barrier()
    if manages_dir:
        with file_lock(root.with_name(_LOCK)):
            if partial.exists():  # else another rank of this machine has renamed it
                _publish(partial, final)
    world.barrier()
    return final


def _save_parts(
    partial: Path,
    at: CheckpointStep,
    world: World,
    model: nn.Module,
    shared: dict[str, Any],
    rank_state: Mapping[str, Any],
) -> None:
    state = {"statistics": running_statistics(model.state_dict()), "counted": True, **rank_state}
    _write(partial / rank_file(world.rank), state)
    if world.first:
        header = {"schema_version": SCHEMA_VERSION, "world_size": world.size, "epoch": at.epoch, "step": at.step}
        _write(partial / SHARED_FILE, {**header, "model": model.state_dict(), **shared})


def _publish(partial: Path, final: Path) -> None:
    if final.exists():
        # The state at one step is always the same, and a directory cannot be replaced atomically.
        shutil.rmtree(partial, ignore_errors=True)
    else:
        os.rename(partial, final)


def _write(path: Path, state: dict[str, Any]) -> None:
    with name_full_disk(path.parent.parent, _nbytes(state)), open(path, "wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())  # or a power cut after the rename could leave a name without content


def _nbytes(value: Any) -> int:
    """The size of the tensors in a state, roughly that of its file."""
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, Mapping):
        return sum(map(_nbytes, value.values()))
    return sum(map(_nbytes, value)) if isinstance(value, list | tuple) else 0


def delete_all_but(root: Path, names: set[str]) -> None:
    """Delete checkpoints of other names, and the remains of interrupted saves."""
    for entry in list(root.iterdir()):
        if entry.name.startswith(".epoch-") or (is_checkpoint_name(entry.name) and entry.name not in names):
            shutil.rmtree(entry, ignore_errors=True)


def latest(root: Path) -> Path | None:
    """The latest checkpoint; None if there is none."""
    checkpoints = [entry for entry in root.iterdir() if is_checkpoint_name(entry.name)] if root.is_dir() else []
    return max(checkpoints, key=step_of, default=None)


def checkpoint_steps(root: Path) -> list[CheckpointStep]:
    """Where the checkpoints were made, in order."""
    checkpoints = [entry for entry in root.iterdir() if is_checkpoint_name(entry.name)] if root.is_dir() else []
    return sorted(map(step_of, checkpoints))


def is_checkpoint_name(name: str) -> bool:
    """Whether `name` is the name of a checkpoint's directory."""
    return _NAME.fullmatch(name) is not None


def step_of(checkpoint: Path) -> CheckpointStep:
    """Where a checkpoint was made, from the name of its directory."""
    match = _NAME.fullmatch(checkpoint.name)
    assert match is not None, checkpoint
    return CheckpointStep(int(match[1]), int(match[2] or 0))


def load_shared(checkpoint: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """The shared part of a checkpoint.

    Raises:
        ConfigError: it is damaged or has an unknown schema version.
    """
    state = _read(checkpoint / SHARED_FILE, device)
    if state.get("schema_version") not in READABLE:
        version, readable = state.get("schema_version"), " and ".join(map(str, READABLE))
        raise ConfigError(f"{checkpoint}: checkpoint schema {version!r}; this distcond reads {readable}")
    return state


def require_all_ranks(checkpoint: Path, number: int) -> None:
    """Check that a checkpoint has the parts of all `number` ranks that saved it.

    Raises:
        ConfigError: parts are missing.
    """
    parts = len(_rank_files(checkpoint))
    if parts != number:
        raise ConfigError(
            f"{checkpoint}: incomplete, has {parts} of {number} rank-*.pt; delete its directory to resume"
        )


def load_rank_state(checkpoint: Path, rank: int, device: torch.device | str = "cpu") -> dict[str, Any]:
    """The part of one rank; with more ranks than parts, rank modulo parts."""
    parts = _rank_files(checkpoint)
    return _read(parts[rank % len(parts)], device)


def load_all_rank_states(checkpoint: Path, device: torch.device | str = "cpu") -> list[dict[str, Any]]:
    """The parts of all ranks, in order of rank."""
    return [_read(part, device) for part in _rank_files(checkpoint)]


def pooled_statistics(checkpoint: Path, which: str = "statistics") -> dict[str, Tensor]:
    """The running statistics pooled over ranks, by state_dict name: what the network of a run is evaluated with.

    Args:
        checkpoint: its directory.
        which: "statistics", or "averaged" for those of the averaged weights.
    """
    parts = load_all_rank_states(checkpoint)
    counted = all(part.get("counted", False) for part in parts)
    found, counters = [part[which] for part in parts], [part["statistics"] for part in parts]
    # Of optim.accumulate: the statistics of every rank's further shares of the batch, ranks within shares.
    shares = [share for of_ranks in zip(*(part.get("shares", ()) for part in parts), strict=True) for share in of_ranks]
    return pool_over_ranks([*found, *shares], [*counters, *shares], counted)


def _rank_files(checkpoint: Path) -> list[Path]:
    parts = sorted(checkpoint.glob("rank-*.pt"))
    if not parts:
        raise ConfigError(f"{checkpoint}: incomplete, has no rank-*.pt; delete its directory to resume")
    return parts


def _read(path: Path, device: torch.device | str) -> dict[str, Any]:
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:
        first = str(error).splitlines()[0] if str(error) else ""
        # torch's message about what it will not unpickle recommends to unpickle it.
        reason = "damaged" if not first or ("eights" in first and "only" in first) else first
        raise ConfigError(f"{path}: not a readable checkpoint ({reason}); delete its directory to resume") from error
    return state
