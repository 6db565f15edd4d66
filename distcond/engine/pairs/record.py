"""What a pair's directory says about the two runs it was made from, and what its network is loaded with."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from distcond.config.schema import DataConfig
from distcond.engine.campaign.weights_digest import weights_digest
from distcond.engine.pairs.interpolate import Interpolation
from distcond.engine.run_dir import RunDir, read_json
from distcond.errors import ConfigError
from distcond.mixednuts import Mix
from distcond.models.conditional import ConditionalModel

#: Which runs, and the digest of their images; and what was fitted for MixedNUTS.
FILE, MIX = "pair.json", "mixednuts.json"


def complete(model: ConditionalModel, run: RunDir, data: DataConfig | None) -> None:
    """Give the network of a pair what lies with its run: the way between the ends, and the fitted mix.

    Raises:
        ConfigError: its record is missing or damaged.
    """
    config = run.config()
    model.interpolate = Interpolation(run.path, replace(config, data=data or config.data), str(record_of(run)["data"]))
    model.mix = mix_of(run, model)


def record_of(run: RunDir) -> dict[str, Any]:
    """The record of a pair.

    Raises:
        ConfigError: it is missing or damaged.
    """
    file = run.path / FILE
    found = read_json(file) if file.exists() else None
    if not isinstance(found, dict) or "data" not in found:
        raise ConfigError(f"{file}: missing or damaged; make the pair again: python -m distcond.pair STANDARD ROBUST")
    return found


def mix_of(run: RunDir, model: ConditionalModel) -> Mix | None:
    """The transformation that was fitted for these weights; None where there is none."""
    file = run.path / MIX
    found = read_json(file) if file.exists() else {}
    if found.get("weights") != weights_digest(model):
        return None
    return Mix(found["s"], found["p"], found["c"])
