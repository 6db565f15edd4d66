"""An even dial: the monotone map from dial to t along which an accuracy moves in equal steps, kept beside its run.

Fitted on the validation split alone. Accuracies at a few t are made monotone by isotonic regression and read backwards:
the dial is the share of the way from the accuracy of one end to that of the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from distcond.atomic_io import read_json, write_json
from distcond.config.schema import EvalConfig
from distcond.errors import ConfigError
from distcond.operating_point import BLENDS
from distcond.run_layout import RESULTS_DIR

#: Decimals of t: more would name other networks than the eye tells apart.
DECIMALS = 4


class EvenDial(NamedTuple):
    """The map, piecewise linear, and what it was fitted for.

    Attributes:
        rule: of what, as `eval.dial` says.
        even: which accuracy moves in equal steps, "ra" or "sa".
        lam: of the robust end.
        weights: digest of the network.
        dial, t: the corners of the map, both from 0 to 1 and rising.
        fitted_on: where and under which attack, in words.
    """

    rule: str
    even: str
    lam: float
    weights: str
    dial: tuple[float, ...]
    t: tuple[float, ...]
    fitted_on: str = ""

    def __call__(self, dial: float) -> float:
        """t in [0, 1] at a position of the dial in [0, 1]."""
        return round(float(np.interp(dial, self.dial, self.t)), DECIMALS)


def fitted(even: str, accuracies: Mapping[float, float]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The corners (dial, t) of the map along which RA rises, or SA falls, in equal steps.

    Args:
        even: "ra" or "sa".
        accuracies: at some t, 0 and 1 among them, in [0, 1].

    Raises:
        ConfigError: the accuracy is no higher, or of SA no lower, at the robust end.
    """
    ts = sorted(accuracies)
    course = rising([accuracies[t] if even == "ra" else -accuracies[t] for t in ts])
    low, high = course[0], course[-1]
    if high <= low:
        way = "rise" if even == "ra" else "fall"
        raise ConfigError(
            f"even={even}: {even.upper()} does not {way} from t 0 to t 1; valid: another accuracy, or none"
        )
    levels = sorted(set(course))
    middle = {level: float(np.mean([t for t, at in zip(ts, course, strict=True) if at == level])) for level in levels}
    places = [0.0, *(middle[level] for level in levels[1:-1]), 1.0]
    return tuple((level - low) / (high - low) for level in levels), tuple(places)


def rising(values: Sequence[float]) -> list[float]:
    """The closest values that never fall (pool adjacent violators, all with the same weight)."""
    pools: list[tuple[float, int]] = []
    for value in values:
        pools.append((value, 1))
        while len(pools) > 1 and pools[-2][0] >= pools[-1][0]:
            (last, many), (other, more) = pools.pop(), pools.pop()
            pools.append(((last * many + other * more) / (many + more), many + more))
    return [value for value, many in pools for _ in range(many)]


def file_of(run_path: Path, settings: EvalConfig, even: str, checkpoint: str) -> Path:
    """Where the map of a run lies: one for each rule, accuracy, robust end and checkpoint."""
    return run_path / RESULTS_DIR / f"dial-{settings.dial}-{even}-lam{settings.dial_lam:g}-{checkpoint}.json"


def keep(path: Path, found: EvenDial) -> None:
    """Write the map."""
    write_json(path, found._asdict())


def read_even(run_path: Path, settings: EvalConfig, checkpoint: str, weights: str) -> EvenDial | None:
    """The map that `eval.dial_even` asks for; None where it asks for none.

    Raises:
        ConfigError: there is none, it cannot be read, or it belongs to other weights.
    """
    if settings.dial_even == "no":
        return None
    if settings.dial == "switch":
        raise ConfigError(
            f"eval.dial_even={settings.dial_even}: a switch has no map; valid: eval.dial={', '.join(BLENDS[1:])}"
        )
    path = file_of(run_path, settings, settings.dial_even, checkpoint)
    again = f"python -m distcond.calibrate {run_path} even={settings.dial_even} eval.dial={settings.dial}"
    if not path.exists():
        raise ConfigError(f"eval.dial_even={settings.dial_even}: no {path.name} yet; fit it: {again}")
    try:
        values = read_json(path)
        found = EvenDial(**values | {"dial": tuple(values["dial"]), "t": tuple(values["t"])})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"{path}: is no map of a dial; fit it again: {again}") from error
    if (found.weights, found.rule, found.even, found.lam) != (
        weights, settings.dial, settings.dial_even, settings.dial_lam,
    ):  # fmt: skip
        raise ConfigError(f"{path}: was fitted for other weights; fit it again: {again}")
    return found
