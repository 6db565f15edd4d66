"""Loads the network of a finished or interrupted run, without Ray or FFCV."""

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
from distcond.runs.code_trust import trusting_files
from distcond.runs.pair_record import attach_pair_state
from distcond.runs.run_cache import fetch_run
from distcond.runs.run_dir import RunDir

_log = logging.getLogger(__name__)

CHECKPOINT_CHOICES = ("best", "last", "last_raw")


def load(
    run_dir: str | Path,
    checkpoint: str = "best",
    device: torch.device | str = "cpu",
    data: DataConfig | None = None,
    trust: bool = False,
) -> ConditionalModel:
    """Load the network of a run, in eval mode, with running statistics pooled over ranks.

    `AtLambda(load(run_dir), 0.3)` is a plain `x in [0, 1] -> logits` module. `load(run_dir).classes` are the class
    names in the order of the logits, empty if the classes have no names.

    Args:
        run_dir: a run directory, or the URI of a run.
        checkpoint: "best" (on validation, by the rule `eval.select` of the run) or "last"; averaged weights if the
            run averaged them. "last_raw" is "last" without averaging.
        device: of the network.
        data: where the training images are, for weights between the two runs of a pair; None = as in the config.
        trust: import the code that the run names by module even if others may have written its `config.json`.

    Raises:
        ConfigError: no run or no checkpoint there, or this version cannot read it.
    """
    with trusting_files(trust):
        run = RunDir(fetch_run(run_dir, checkpoints=True))
        changed = run.changed_source(run.config())
        path = find_checkpoint(run, checkpoint)
        if changed:
            _log.warning("%s", changed)
        try:
            return load_from(run, path, checkpoint, device, data)
        except ConfigError:
            if path.exists():
                raise
        # The run is still training and has replaced the checkpoint.
        return load_from(run, find_checkpoint(run, checkpoint), checkpoint, device, data)


def load_from(
    run: RunDir, path: Path, checkpoint: str, device: torch.device | str, data: DataConfig | None = None
) -> ConditionalModel:
    """Load the network of the checkpoint at `path`; see `load`."""
    model = build_model(run.config())
    shared = load_shared(path)
    model.load_state_dict(shared["model"] | pooled_statistics(path))
    if shared.get("averaged") is not None and checkpoint != "last_raw":
        overlay_average(model, shared["averaged"]["parameters"] | pooled_statistics(path, "averaged"))
    model.classes = tuple(shared.get("classes", ()))  # missing in older versions
    model.to(device).eval()
    if model.two_networks:
        attach_pair_state(model, run, data)
    return model


def find_checkpoint(run: RunDir, which: str) -> Path:
    """The directory of the "best" or "last" checkpoint ("last_raw" is in the same).

    Raises:
        ConfigError: another value, or no checkpoint yet.
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
    """Completed epochs at the "best" or "last" checkpoint."""
    return step_of(find_checkpoint(run, which)).epoch
