"""Loads the network of a finished or interrupted run, without Ray and without FFCV."""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from distcond.config.fields import check_choice
from distcond.config.schema import DataConfig
from distcond.distributed.running_statistics import overlay_average
from distcond.errors import ConfigError
from distcond.models.conditional import ConditionalModel
from distcond.runs.build import build_model
from distcond.runs.checkpoint import CheckpointStep, latest, load_shared, pooled_statistics, step_of
from distcond.runs.pair_record import attach_pair_state
from distcond.runs.run_cache import fetch_run
from distcond.runs.run_dir import RunDir

_log = logging.getLogger(__name__)

CHECKPOINT_CHOICES = ("best", "last", "last_raw")


def load(
    run_dir: str | Path, checkpoint: str = "best", device: torch.device | str = "cpu", data: DataConfig | None = None
) -> ConditionalModel:
    """The network of a run, in eval mode, with its running statistics averaged over ranks.

    `AtLambda(load(run_dir), 0.3)` is a plain `x in [0, 1] -> logits` module; `load(run_dir).classes` are the names of
    the classes in the order of the logits, empty where they have none.

    Args:
        run_dir: the directory a run printed, or the URI of a run.
        checkpoint: "best" (mean of SA and RA over the grid, on validation) or "last"; where the run averaged its
            weights these are the averaged ones, and "last_raw" are the last ones as trained.
        device: where to put it.
        data: where the training images lie now, for weights between two runs (a pair); unset = where they lay.

    Raises:
        ConfigError: no run or no checkpoint there, or one this version cannot read.
    """
    run = RunDir(fetch_run(run_dir, checkpoints=True))
    path = find_checkpoint(run, checkpoint)
    changed = run.changed_source(run.config())
    if changed:
        _log.warning("%s", changed)
    try:
        return load_from(run, path, checkpoint, device, data)
    except ConfigError:
        if path.exists():
            raise
    # The run goes on, and has replaced it meanwhile.
    return load_from(run, find_checkpoint(run, checkpoint), checkpoint, device, data)


def load_from(
    run: RunDir, path: Path, checkpoint: str, device: torch.device | str, data: DataConfig | None = None
) -> ConditionalModel:
    """The network in the checkpoint at `path`; see `load`."""
    model = build_model(run.config())
    shared = load_shared(path)
    model.load_state_dict(shared["model"] | pooled_statistics(path))
    if shared.get("averaged") is not None and checkpoint != "last_raw":
        overlay_average(model, shared["averaged"]["parameters"] | pooled_statistics(path, "averaged"))
    model.classes = tuple(shared.get("classes", ()))  # of an older version: unknown
    model.to(device).eval()
    if model.two_networks:
        attach_pair_state(model, run, data)
    return model


def find_checkpoint(run: RunDir, which: str) -> Path:
    """The directory of the "best" or "last" checkpoint ("last_raw" lies in the same).

    Raises:
        ConfigError: another word, or none there yet.
    """
    check_choice("checkpoint", which, CHECKPOINT_CHOICES)
    last = latest(run.checkpoints)
    if last is None:
        raise ConfigError(f"{run.path}: no checkpoint yet; let the run finish at least one epoch")
    if which != "best":
        return last
    best = load_shared(last)["best"]
    return run.checkpoints / CheckpointStep(best[0]).name if best is not None else last


def epoch_at(run: RunDir, which: str) -> int:
    """Epochs completed at the "best" or "last" checkpoint."""
    return step_of(find_checkpoint(run, which)).epoch
