"""One checkpoint format under every launcher: a directory with a shared part and a part per rank.

    checkpoints/epoch-0012/shared.pt     model, optimiser, position, history of the run (rank 0)
    checkpoints/epoch-0012/rank-0000.pt  what differs between ranks: running statistics, which steer the eval-mode
                                         attack, and the sums of an epoch that is not over
    checkpoints/epoch-0012-step-000340   the same in the middle of the 13th epoch

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
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from distcond.atomic_io import file_lock
from distcond.distributed.running_statistics import pool_over_ranks, running_statistics
from distcond.distributed.world import World
from distcond.errors import ConfigError
from distcond.path_errors import as_disk_full
from distcond.run_layout import SHARED_FILE, rank_file

SCHEMA_VERSION = 2
#: The network can be read from these; training goes on from the present one alone.
READABLE = (1, 2)
_LOCK = ".checkpoints.lock"
_NAME = re.compile(r"epoch-(\d{4,})(?:-step-(\d{6,}))?")


class CheckpointStep(NamedTuple):
    """Where in a run a checkpoint was made: epochs completed, and steps of the next one."""

    epoch: int
    step: int = 0

    @property
    def name(self) -> str:
        """Of its directory."""
        return f"epoch-{self.epoch:04d}" + (f"-step-{self.step:06d}" if self.step else "")


def save_checkpoint(
    root: Path,
    moment: CheckpointStep,
    world: World,
    model: nn.Module,
    shared: dict[str, Any],
    own: Mapping[str, Any],
    apart: bool = False,
) -> Path:
    """Write the checkpoint of `moment` from all ranks together.

    Nothing stays where a rank cannot write its part.

    `shared` is rank 0's, `own` this rank's beside its running statistics: plain values and tensors. `apart` says that
    every machine has a `root` of its own, which holds the parts of its ranks.

    Saving changes nothing about the run: no statistic is synchronised because a checkpoint was due.
    """
    final, aside = root / moment.name, root / f".{moment.name}"
    prepares = world.first or apart
    if prepares:
        with file_lock(root.with_name(_LOCK)):
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir(parents=True, exist_ok=True)
    world.barrier()
    try:
        _save_parts(aside, moment, world, model, shared, own)
    except Exception:
        # Nothing of half a checkpoint stays: on a full disk its room is what the last words need.
        shutil.rmtree(aside, ignore_errors=True)
        raise
    world.barrier()
    if prepares:
        with file_lock(root.with_name(_LOCK)):
            if aside.exists():  # else another rank of this machine was faster
                _publish(aside, final)
    world.barrier()
    return final


def _save_parts(
    aside: Path, moment: CheckpointStep, world: World, model: nn.Module, shared: dict[str, Any], own: Mapping[str, Any]
) -> None:
    mine = {"statistics": running_statistics(model.state_dict()), "counted": True, **own}
    _write(aside / rank_file(world.rank), mine)
    if world.first:
        state = {"schema_version": SCHEMA_VERSION, "world_size": world.size, "epoch": moment.epoch, "step": moment.step}
        _write(aside / SHARED_FILE, {**state, "model": model.state_dict(), **shared})


def _publish(aside: Path, final: Path) -> None:
    if final.exists():
        # The same moment is the same state. A directory cannot be replaced in one go, and between two there is none.
        shutil.rmtree(aside, ignore_errors=True)
    else:
        os.rename(aside, final)


def latest(root: Path) -> Path | None:
    """The complete checkpoint of the latest moment, or None."""
    found = [entry for entry in root.iterdir() if _NAME.fullmatch(entry.name)] if root.is_dir() else []
    return max(found, key=step_of, default=None)


def checkpoint_steps(root: Path) -> list[CheckpointStep]:
    """Where the complete checkpoints were made, in order."""
    names = [entry for entry in root.iterdir() if is_checkpoint_name(entry.name)] if root.is_dir() else []
    return sorted(map(step_of, names))


def is_checkpoint_name(name: str) -> bool:
    """Whether a checkpoint could be called so."""
    return _NAME.fullmatch(name) is not None


def step_of(checkpoint: Path) -> CheckpointStep:
    """Where a checkpoint was made."""
    match = _NAME.fullmatch(checkpoint.name)
    assert match is not None, checkpoint
    return CheckpointStep(int(match[1]), int(match[2] or 0))


def load_shared(checkpoint: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Rank 0's part.

    Raises:
        ConfigError: truncated, or of another schema version.
    """
    state = _read(checkpoint / SHARED_FILE, device)
    if state.get("schema_version") not in READABLE:
        version, readable = state.get("schema_version"), " and ".join(map(str, READABLE))
        raise ConfigError(f"{checkpoint}: checkpoint schema {version!r}; this distcond reads {readable}")
    return state


def require_all_ranks(checkpoint: Path, number: int) -> None:
    """Refuse a checkpoint that lacks the part of a rank.

    Raises:
        ConfigError: there are not as many parts as ranks that saved.
    """
    if len(_parts(checkpoint)) != number:
        raise ConfigError(
            f"{checkpoint}: holds {len(_parts(checkpoint))} parts of {number}; delete its directory to go on"
        )


def load_rank_state(checkpoint: Path, rank: int, device: torch.device | str = "cpu") -> dict[str, Any]:
    """One rank's part; with more ranks than parts, they are dealt round."""
    parts = _parts(checkpoint)
    return _read(parts[rank % len(parts)], device)


def load_all_rank_states(checkpoint: Path, device: torch.device | str = "cpu") -> list[dict[str, Any]]:
    """The parts of all ranks that saved, in their order."""
    return [_read(part, device) for part in _parts(checkpoint)]


def pooled_statistics(checkpoint: Path, which: str = "statistics") -> dict[str, Tensor]:
    """The running statistics over all ranks: what the one network of a run is evaluated with."""
    parts = load_all_rank_states(checkpoint)
    counted = all(part.get("counted", False) for part in parts)
    return pool_over_ranks([part[which] for part in parts], [part["statistics"] for part in parts], counted)


def _parts(checkpoint: Path) -> list[Path]:
    parts = sorted(checkpoint.glob("rank-*.pt"))
    if not parts:
        raise ConfigError(f"{checkpoint}: not a whole checkpoint (no rank-*.pt); delete its directory to go on")
    return parts


def delete_all_but(root: Path, names: set[str]) -> None:
    """Delete complete checkpoints of other names, and whatever a killed save left behind."""
    for entry in list(root.iterdir()):
        if entry.name.startswith(".epoch-") or (_NAME.fullmatch(entry.name) and entry.name not in names):
            shutil.rmtree(entry, ignore_errors=True)


def _write(path: Path, state: dict[str, Any]) -> None:
    try:
        with open(path, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())  # a power cut after the rename must not leave a name without bytes
    except (OSError, RuntimeError) as error:
        full = as_disk_full(error, path.parent.parent)
        if full is None:
            raise
        raise full from error


def _read(path: Path, device: torch.device | str) -> dict[str, Any]:
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:
        first = str(error).splitlines()[0] if str(error) else ""
        # torch's own words on what it will not unpickle recommend to unpickle it.
        reason = "damaged" if not first or ("eights" in first and "only" in first) else first
        raise ConfigError(f"{path}: not a readable checkpoint ({reason}); delete its directory to go on") from error
    return state
