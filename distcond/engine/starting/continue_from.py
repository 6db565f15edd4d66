"""Go on from another run's checkpoint with changed settings: weights, optimiser, masks and position are taken over.

What a setting changed stays changed: an optimiser restores its weight decay and momentum with its state, so those of
the new settings are written into the copy. The copied run's best checkpoint counts no more, its history stays behind.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import torch

from distcond.aside import to_disk
from distcond.config.schema import Config
from distcond.data.described import prepared
from distcond.engine import checkpoint
from distcond.engine.build import build_model
from distcond.engine.job import Position, stages_of
from distcond.engine.optimiser import make_optimiser
from distcond.engine.run_dir import RunDir, read_json, run_dir_for, write_json
from distcond.errors import ConfigError
from distcond.registry import lookup

#: In the run directory: where the run comes from.
FILE = "lineage.json"


def continue_from(config: Config, donor: Path, epoch: int, heir: str) -> RunDir:
    """The run directory of `config` that begins at the checkpoint of `donor` after `epoch` epochs.

    Called again it gives the same directory and leaves what it holds. `heir` tells runs apart that go on from the same
    place with the same settings.

    Raises:
        ConfigError: there is no such checkpoint, or it does not fit.
    """
    source = RunDir(donor).checkpoints / checkpoint.Moment(epoch).name
    lineage = {"run": donor.name, "epoch": epoch, "heir": heir}
    before = read_json(donor / FILE) if (donor / FILE).exists() else None
    run = run_dir_for(config, f"{prepared(config.data).fingerprint}+{lineage}+{before}")
    if checkpoint.newest(run.checkpoints) is not None:
        return run
    if not source.is_dir():
        raise ConfigError(f"{source}: no checkpoint to go on from")
    shared = checkpoint.load_shared(source)
    shared["optimiser"] = retuned(config, shared)
    shared["best"] = None
    aside = run.checkpoints / f".{source.name}"
    shutil.rmtree(aside, ignore_errors=True)
    shutil.copytree(source, aside)
    torch.save(shared, aside / "shared.pt")
    for part in aside.iterdir():
        to_disk(part)
    write_json(run.path / FILE, {**lineage, "before": before})
    os.rename(aside, run.checkpoints / source.name)
    return run


def retuned(config: Config, shared: dict[str, Any]) -> dict[str, Any]:
    """The optimiser's state of a checkpoint with the settings of `config`.

    Raises:
        ConfigError: `config` sorts its parameters into other groups.
    """
    method = lookup("method", config.method.name)
    stages, at = stages_of(config, method), Position(*shared["position"])
    optim = stages[min(at.stage, len(stages) - 1)].optim
    state: dict[str, Any] = shared["optimiser"]
    fresh = make_optimiser(build_model(config), optim).state_dict()["param_groups"]
    if [group["params"] for group in fresh] != [group["params"] for group in state["param_groups"]]:
        raise ConfigError(
            f"optim.no_decay={','.join(optim.no_decay)}: other groups than those of the run it goes on from"
        )
    return {**state, "param_groups": fresh}
