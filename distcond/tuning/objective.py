"""What a sweep compares its trials by: numbers from the history of a run, of the checkpoint that the run keeps."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from distcond.config.schema import Config
from distcond.errors import ConfigError
from distcond.registry import describe_unknown
from distcond.results.labels import ATTACK_NAMES, pixel_fraction
from distcond.results.pareto import area
from distcond.runs.grid import positions

Record = Mapping[str, Any]

PLAIN = ("hypervolume", "train_flops", "seconds")
FORMS = (*PLAIN, "sa@LAM", "ra@LAM")


class Objective(NamedTuple):
    """One number of a run.

    Attributes:
        name: as it was asked for.
        kind: hypervolume, sa, ra, train_flops or seconds.
        lam: of sa and ra; of a sweep along a blend its t.
        up: whether more is better.
    """

    name: str
    kind: str
    lam: float
    up: bool

    def is_at(self, lam: float) -> bool:
        """Whether a row at `lam` is the one of this sa or ra."""
        return math.isclose(lam, self.lam, abs_tol=1e-6)


def read_objective(name: str, config: Config) -> Objective:
    """The objective called `name`.

    Raises:
        ConfigError: there is none, or runs of `config` never measure it.
    """
    if name in PLAIN:
        return Objective(name, name, math.nan, name == "hypervolume")
    found = re.fullmatch(r"(sa|ra)@([\d.e-]+)", name)
    if not found:
        raise ConfigError(f"objective={name}: {describe_unknown('objective', name, FORMS)}")
    try:
        lam = float(found[2])
    except ValueError as error:
        raise ConfigError(f"objective={name}: {found[2]} is no number") from error
    grid = positions(config)
    if not any(math.isclose(lam, at, abs_tol=1e-6) for at in grid):
        valid = ", ".join(f"{at:g}" for at in grid)
        setting = "eval.lam_grid" if config.eval.dial == "switch" else "eval.dial_grid"
        raise ConfigError(f"objective={name}: never measured, {setting} is {valid}; valid: one of these, or add it")
    return Objective(name, found[1], lam, True)


def values(objectives: Sequence[Objective], records: Sequence[Record], reference: tuple[float, float]) -> list[float]:
    """The values of a run's history so far; empty before its first validation.

    Accuracies are those of one epoch: the best by the mean of SA and RA over the grid within its last stage, whose
    checkpoint the run keeps. So two objectives never come from two networks.
    """
    kept = kept_record(records)
    if kept is None:
        return []
    found = [_value(objective, kept, records, reference) for objective in objectives]
    return found if all(math.isfinite(value) for value in found) else []


def kept_record(records: Sequence[Record]) -> Record | None:
    """The validated epoch whose checkpoint the run keeps: the best of its last stage; None before a validation."""
    swept = [record for record in records if record.get("val")]
    last = [record for record in swept if record.get("stage") == swept[-1].get("stage")]
    return max(last, key=lambda record: record["val_score"], default=None)


def ends(records: Sequence[Record]) -> tuple[float, float]:
    """The highest SA and the highest RA over the lam grid, at the checkpoint that the run keeps.

    Raises:
        ValueError: the history has no validation.
    """
    kept = kept_record(records)
    if kept is None:
        raise ValueError("no validation")
    return max(at["sa"] for at in kept["val"]), max(at["ra"] for at in kept["val"])


def spent(records: Sequence[Record]) -> tuple[float, float]:
    """Training FLOPs and seconds of training and validation of a history."""
    if not records:
        return 0.0, 0.0
    return float(records[-1].get("train_flops") or 0.0), sum(float(record.get("seconds") or 0.0) for record in records)


def described(objectives: Sequence[Objective], config: Config, reference: tuple[float, float]) -> str:
    """What is compared in a line: attack, budget and split."""
    attack, settings = config.eval.attack, config.eval
    examples, name = str(settings.val_examples or "all"), ATTACK_NAMES[settings.attack_name]
    how = (
        f"{name}-{settings.val_steps} {attack.norm} eps={pixel_fraction(attack.epsilon)} "
        f"step={pixel_fraction(attack.step_size)}, {examples} validation examples, "
        f"{'lam' if settings.dial == 'switch' else settings.dial} {', '.join(f'{at:g}' for at in positions(config))}"
    )
    above = f" above SA {reference[0]:g}, RA {reference[1]:g}"
    names = [f"{one.name}{above if one.kind == 'hypervolume' else ''}" for one in objectives]
    return f"{' and '.join(names)} at the checkpoint that a run keeps ({how})"


def _value(objective: Objective, kept: Record, records: Sequence[Record], reference: tuple[float, float]) -> float:
    if objective.kind == "hypervolume":
        return area([(at["sa"], at["ra"]) for at in kept["val"]], reference)
    if objective.kind in ("sa", "ra"):
        # Of several widths the first is the full one.
        found = [at for at in kept["val"] if objective.is_at(at.get("blend_t", at["lam"]))]
        return float(found[0][objective.kind]) if found else math.nan
    return spent(records)[objective.kind == "seconds"]
