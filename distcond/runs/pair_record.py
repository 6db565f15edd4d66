"""The files of a pair: the record of its two runs (`pair.json`), and the fit of MixedNUTS (`mixednuts.json`)."""

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

#: Keys without which a fit cannot be used.
_FIT_KEYS = {"weights", "s", "p", "c", "alpha", "examples", "attack"}


def attach_pair_state(model: ConditionalModel, run: RunDir, data: DataConfig | None) -> None:
    """Attach to the network of a pair what its run directory holds: the interpolation and the fitted mix.

    Raises:
        ConfigError: the record of the pair is missing or damaged.
    """
    config = run.config()
    config, fingerprint = replace(config, data=data or config.data), str(read_pair_record(run)["data"])
    model.interpolate = Interpolation(run.path, config, fingerprint, weights_digest(model))
    model.mix = load_mix(run, model)


def read_pair_record(run: RunDir) -> dict[str, Any]:
    """The record of a pair.

    Raises:
        ConfigError: it is missing or damaged.
    """
    record = _read_record_or_none(run)
    if record is None:
        raise ConfigError(
            f"{run.path / PAIR_FILE}: missing or damaged; make the pair again: "
            "python -m distcond.pair STANDARD ROBUST mix=none"
        )
    return record


def has_pair_record(run: RunDir) -> bool:
    """Whether the record of a pair exists and is readable."""
    return _read_record_or_none(run) is not None


def _read_record_or_none(run: RunDir) -> dict[str, Any] | None:
    try:
        record = json.loads((run.path / PAIR_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    runs = [record.get("standard"), record.get("robust")] if isinstance(record, dict) else [None]
    return record if all(isinstance(run, dict) for run in runs) and isinstance(record.get("data"), str) else None


def checkpoint_of(run: RunDir) -> str:
    """The checkpoint of both runs that a pair was made of: "best", "last" or "last_raw"."""
    return str(read_pair_record(run)["robust"].get("checkpoint", "best"))


def check_pair_checkpoint(run: RunDir, checkpoint: str) -> None:
    """Check that `checkpoint` is the one that the pair was made of; "" is always accepted.

    Raises:
        ConfigError: it is another one.
    """
    own = checkpoint_of(run)
    if checkpoint not in ("", own):
        raise ConfigError(
            f"checkpoint={checkpoint}: this pair was made of checkpoint={own}; "
            f"python -m distcond.pair STANDARD ROBUST checkpoint={checkpoint} makes another"
        )


def load_mix(run: RunDir, model: ConditionalModel) -> Mix | None:
    """The transformation fitted for these weights; None if there is none."""
    return mix_in(load_fit(run, model))


def mix_in(fitted: dict[str, Any] | None) -> Mix | None:
    """The transformation in the record of a fit."""
    return None if fitted is None else Mix(fitted["s"], fitted["p"], fitted["c"])


def load_fit(run: RunDir, model: ConditionalModel) -> dict[str, Any] | None:
    """The record of the fit for these weights; None if there is none."""
    fit = read_fit(run)
    return fit if fit is not None and fit.get("weights") == weights_digest(model) else None


def read_fit(run: RunDir) -> dict[str, Any] | None:
    """The record of the fit, for whatever weights; None if it is missing or incomplete."""
    file = run.path / MIXEDNUTS_FILE
    fit = read_json(file) if file.exists() else None
    if not isinstance(fit, dict) or not set(fit) >= _FIT_KEYS:
        return None
    attack = fit["attack"]
    return fit | {"attack": {**attack, "name": EARLIER_NAMES.get(attack["name"], attack["name"])}}
