"""What a pair's directory says about the two runs it was made from, and what its network is loaded with."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from distcond.atomic_io import read_json
from distcond.attacks.attack import EARLIER_NAMES
from distcond.config.schema import DataConfig
from distcond.errors import ConfigError
from distcond.mixednuts import Mix
from distcond.models.conditional import ConditionalModel
from distcond.models.weights_digest import weights_digest
from distcond.run_layout import MIXEDNUTS_FILE, PAIR_FILE
from distcond.runs.interpolation import Interpolation
from distcond.runs.run_dir import RunDir

#: Which runs, and the digest of their images; and what was fitted for MixedNUTS.
#: What a fit cannot be used without.
_WHOLE = {"weights", "s", "p", "c", "alpha", "examples", "attack"}


def attach_pair_state(model: ConditionalModel, run: RunDir, data: DataConfig | None) -> None:
    """Give the network of a pair what lies with its run: the way between the ends, and the fitted mix.

    Raises:
        ConfigError: its record is missing or damaged.
    """
    config = run.config()
    config, images = replace(config, data=data or config.data), str(record_of(run)["data"])
    model.interpolate = Interpolation(run.path, config, images, weights_digest(model))
    model.mix = load_mix(run, model)


def record_of(run: RunDir) -> dict[str, Any]:
    """The record of a pair.

    Raises:
        ConfigError: it is missing or damaged.
    """
    found = _record_in(run)
    if found is None:
        raise ConfigError(
            f"{run.path / PAIR_FILE}: missing or damaged; make the pair again: "
            "python -m distcond.pair STANDARD ROBUST mix=none"
        )
    return found


def is_whole(run: RunDir) -> bool:
    """Whether the record of a pair is there and can be read."""
    return _record_in(run) is not None


def _record_in(run: RunDir) -> dict[str, Any] | None:
    try:
        found = json.loads((run.path / PAIR_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    ends = [found.get("standard"), found.get("robust")] if isinstance(found, dict) else [None]
    return found if all(isinstance(end, dict) for end in ends) and isinstance(found.get("data"), str) else None


def checkpoint_of(run: RunDir) -> str:
    """Which checkpoint of both runs a pair was made of: "best", "last" or "last_raw"."""
    return str(record_of(run)["robust"].get("checkpoint", "best"))


def check_checkpoint(run: RunDir, asked: str) -> None:
    """Refuse another checkpoint than that of the two runs; "" asks for none.

    Raises:
        ConfigError: as said.
    """
    own = checkpoint_of(run)
    if asked not in ("", own):
        raise ConfigError(
            f"checkpoint={asked}: this pair was made of checkpoint={own}; "
            f"python -m distcond.pair STANDARD ROBUST checkpoint={asked} makes another"
        )


def load_mix(run: RunDir, model: ConditionalModel) -> Mix | None:
    """The transformation that was fitted for these weights; None where there is none."""
    return mix_in(load_fit(run, model))


def mix_in(fitted: dict[str, Any] | None) -> Mix | None:
    """The transformation in what is kept of a fit."""
    return None if fitted is None else Mix(fitted["s"], fitted["p"], fitted["c"])


def load_fit(run: RunDir, model: ConditionalModel) -> dict[str, Any] | None:
    """What is kept of the fit for these weights; None where there is none."""
    found = read_fit(run)
    return found if found is not None and found.get("weights") == weights_digest(model) else None


def read_fit(run: RunDir) -> dict[str, Any] | None:
    """What is kept of a fit, for whatever weights; None where it is missing or not whole."""
    file = run.path / MIXEDNUTS_FILE
    found = read_json(file) if file.exists() else None
    if not isinstance(found, dict) or not set(found) >= _WHOLE:
        return None
    attack = found["attack"]
    return found | {"attack": {**attack, "name": EARLIER_NAMES.get(attack["name"], attack["name"])}}
