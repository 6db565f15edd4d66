"""Continues from another run's checkpoint with changed settings: weights, optimiser, masks and position.

An optimiser restores weight decay and momentum with its state, so those of the new settings are written into the copy.
The best checkpoints are reset. The parent's history is not copied.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import torch

from distcond.atomic_io import fsync_file, read_json, write_json
from distcond.config.schema import Config
from distcond.data.prepare import prepare_data
from distcond.errors import ConfigError
from distcond.registry import lookup
from distcond.run_layout import HISTORY_FILE, LINEAGE_FILE, SHARED_FILE
from distcond.runs import checkpoint
from distcond.runs.build import build_model
from distcond.runs.checkpoint import Position
from distcond.runs.run_dir import RunDir, run_dir_for
from distcond.training.build_trainer import stages_of
from distcond.training.optimiser import make_optimiser


def continue_from(config: Config, parent: Path, epoch: int, child: str, name: str = "") -> RunDir:
    """The run directory of `config`, starting from the checkpoint of `parent` after `epoch` epochs.

    Called again with the same arguments, it returns the same directory and leaves its content alone.

    Args:
        config: the new run.
        parent: run directory to continue from.
        epoch: completed epochs of the checkpoint.
        child: distinguishes runs that continue from the same checkpoint with the same settings.
        name: run ID of `parent`, if its directory is called otherwise.

    Raises:
        ConfigError: there is no such checkpoint, or it does not fit.
    """
    source = RunDir(parent).checkpoints / checkpoint.CheckpointStep(epoch).name
    lineage = {"run": name or parent.name, "epoch": epoch, "heir": child}
    before = read_json(parent / LINEAGE_FILE) if (parent / LINEAGE_FILE).exists() else None
    run = run_dir_for(config, f"{prepare_data(config.data).fingerprint}+{lineage}+{before}")
    if checkpoint.latest(run.checkpoints) is not None:
        return run
    if not source.is_dir():
        raise ConfigError(f"{source}: no checkpoint to continue from")
    shared = checkpoint.load_shared(source)
    shared["optimiser"] = optimiser_state_for(config, shared)
    shared["best"], shared["winners"] = None, {}
    partial = run.checkpoints / f".{source.name}"
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(source, partial, ignore=shutil.ignore_patterns(HISTORY_FILE))
    torch.save(shared, partial / SHARED_FILE)
    for part in partial.iterdir():
        fsync_file(part)
    write_json(run.path / LINEAGE_FILE, {**lineage, "before": before})
    os.rename(partial, run.checkpoints / source.name)
    return run


def optimiser_state_for(config: Config, shared: dict[str, Any]) -> dict[str, Any]:
    """The optimiser state of a checkpoint's shared part, with the hyperparameters of `config`.

    Raises:
        ConfigError: `config` divides the parameters into other groups.
    """
    method = lookup("method", config.method.name)
    stages, at = stages_of(config, method), Position(*shared["position"])
    optim = stages[min(at.stage, len(stages) - 1)].optim
    state: dict[str, Any] = shared["optimiser"]
    groups = make_optimiser(build_model(config), optim).state_dict()["param_groups"]
    if [group["params"] for group in groups] != [group["params"] for group in state["param_groups"]]:
        raise ConfigError(
            f"optim.no_decay={','.join(optim.no_decay)}: other parameter groups than in the run it continues from"
        )
    return {**state, "param_groups": groups}
