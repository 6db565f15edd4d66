"""EvenDial: the monotone map from dial to t along which an accuracy changes in equal steps, stored with its run.

It is fitted on the validation split only: isotonic regression makes the accuracies at a few t monotone, and the map is
their inverse. The dial is the share of the way from the accuracy of one end to that of the other.
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

#: Decimals of t. More would distinguish networks that behave the same.
DECIMALS = 4


class EvenDial(NamedTuple):
    """A piecewise linear map, and what it was fitted for.

    Attributes:
        rule: `eval.dial`.
        even: the accuracy that changes in equal steps, "ra" or "sa".
        lam: of the robust end.
        weights: digest of the network.
        dial, t: the corners of the map, both ascending from 0 to 1.
        fitted_on: images, attack and width of the fit, as text.
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


def fit_even_map(even: str, accuracies: Mapping[float, float]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The corners (dial, t) of the map along which RA rises, or SA falls, in equal steps.

    Args:
        even: "ra" or "sa".
        accuracies: in [0, 1], by t; must include t = 0 and 1.

    Raises:
        ConfigError: RA is not higher, or SA not lower, at the robust end.
    """
    ts = sorted(accuracies)
    curve = isotonic_regression([accuracies[t] if even == "ra" else -accuracies[t] for t in ts])
    low, high = curve[0], curve[-1]
    if high <= low:
        way = "rise" if even == "ra" else "fall"
        raise ConfigError(
            f"even={even}: {even.upper()} does not {way} from t 0 to t 1; valid: another accuracy, or none"
        )
    levels = sorted(set(curve))
    middle = {level: float(np.mean([t for t, at in zip(ts, curve, strict=True) if at == level])) for level in levels}
    positions = [0.0, *(middle[level] for level in levels[1:-1]), 1.0]
    return tuple((level - low) / (high - low) for level in levels), tuple(positions)


def isotonic_regression(values: Sequence[float]) -> list[float]:
    """Isotonic regression: the closest non-decreasing values (pool adjacent violators, equal weights)."""
    pools: list[tuple[float, int]] = []
    for value in values:
        pools.append((value, 1))
        while len(pools) > 1 and pools[-2][0] >= pools[-1][0]:
            (last, count), (other, other_count) = pools.pop(), pools.pop()
            total = count + other_count
            pools.append(((last * count + other * other_count) / total, total))
    return [value for value, count in pools for _ in range(count)]


def even_dial_file(run_path: Path, settings: EvalConfig, even: str, checkpoint: str) -> Path:
    """The file of a map in the run directory: one per rule, accuracy, robust end and checkpoint."""
    return run_path / RESULTS_DIR / f"dial-{settings.dial}-{even}-lam{settings.dial_lam:g}-{checkpoint}.json"


def write_even_dial(path: Path, even: EvenDial) -> None:
    """Write a map to its file."""
    write_json(path, even._asdict())


def read_even(run_path: Path, settings: EvalConfig, checkpoint: str, weights: str) -> EvenDial | None:
    """The map of `eval.dial_even`; None for "no".

    Raises:
        ConfigError: it does not exist, is damaged, or belongs to other weights.
    """
    if settings.dial_even == "no":
        return None
    if settings.dial == "switch":
        raise ConfigError(
            f"eval.dial_even={settings.dial_even}: a switch has no map; valid: eval.dial={', '.join(BLENDS[1:])}"
        )
    path = even_dial_file(run_path, settings, settings.dial_even, checkpoint)
    command = f"python -m distcond.calibrate {run_path} even={settings.dial_even} eval.dial={settings.dial}"
    if not path.exists():
        raise ConfigError(f"eval.dial_even={settings.dial_even}: no {path.name} yet; fit it: {command}")
    try:
        values = read_json(path)
        even = EvenDial(**values | {"dial": tuple(values["dial"]), "t": tuple(values["t"])})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"{path}: damaged, not a map of a dial; fit it again: {command}") from error
    if (even.weights, even.rule, even.even, even.lam) != (
        weights, settings.dial, settings.dial_even, settings.dial_lam,
    ):  # fmt: skip
        raise ConfigError(f"{path}: was fitted for other weights; fit it again: {command}")
    return even
