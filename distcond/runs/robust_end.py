"""RobustEnd: the lam of a blend's robust end, chosen on the validation split and stored with its run.

A network's most robust lam need not be 1: the noise of FLOAT grows with lam and can cost accuracy under attack, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from distcond.atomic_io import read_json, write_json
from distcond.config.schema import Config
from distcond.errors import ConfigError
from distcond.methods.method import Method
from distcond.registry import lookup
from distcond.run_layout import RESULTS_DIR
from distcond.runs.grid import lam_grid

#: What the end is chosen by: RA, or the mean of SA and RA.
CRITERIA = ("ra", "mean")


class RobustEnd(NamedTuple):
    """A chosen lam, and what it was chosen for.

    Attributes:
        lam: of the robust end, above 0.
        weights: digest of the network.
        criterion: one of `CRITERIA`.
        chosen_on: images and attack, as text.
        sa, ra: accuracies in [0, 1] by lam, written as text.
    """

    lam: float
    weights: str
    criterion: str
    chosen_on: str
    sa: dict[str, float]
    ra: dict[str, float]


def robust_lams(config: Config) -> tuple[float, ...]:
    """The lam of `eval.lam_grid` on the method's robust path.

    Raises:
        ConfigError: the method has one path, or the grid has no lam on its robust path.
    """
    method: Method = lookup("method", config.method.name)
    if not method.has_two_paths(config.method):
        raise ConfigError(f"end: {config.method.name} has one path, a blend needs two; valid: a method with two")
    found = tuple(lam for lam in sorted(set(lam_grid(config))) if method.routing(config.method).at(lam).route)
    if not found:
        raise ConfigError("eval.lam_grid: no lam on the robust path to choose from; try eval.lam_grid=0,0.2,0.5,1")
    return found


def choose_lam(criterion: str, sa: Mapping[float, float], ra: Mapping[float, float]) -> float:
    """The lam with the highest `criterion`; of equal ones that with the higher SA, then the larger lam."""
    score = {lam: ra[lam] if criterion == "ra" else (sa[lam] + ra[lam]) / 2 for lam in ra}
    return max(ra, key=lambda lam: (score[lam], sa[lam], lam))


def robust_end_file(run_path: Path, checkpoint: str) -> Path:
    """The file of the choice in the run directory, one per checkpoint."""
    return run_path / RESULTS_DIR / f"robust-end-{checkpoint}.json"


def write_robust_end(path: Path, end: RobustEnd) -> None:
    """Write a choice to its file."""
    write_json(path, end._asdict())


def with_robust_end(run_path: Path, config: Config, checkpoint: str, weights: str) -> Config:
    """The config with the chosen lam in place of `eval.dial_lam=0`.

    Raises:
        ConfigError: nothing was chosen yet, the file is damaged, or it belongs to other weights.
    """
    if config.eval.dial == "switch" or config.eval.dial_lam:
        return config
    path = robust_end_file(run_path, checkpoint)
    command = f"python -m distcond.calibrate {run_path} end=ra"
    if not path.exists():
        raise ConfigError(f"eval.dial_lam=0: no {path.name} yet; choose the robust end: {command}")
    try:
        end = RobustEnd(**read_json(path))
        lam = float(end.lam)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{path}: damaged, not the choice of a robust end; choose again: {command}") from error
    if end.weights != weights or not 0 < lam <= 1:
        raise ConfigError(f"{path}: was chosen for other weights; choose again: {command}")
    return replace(config, eval=replace(config.eval, dial_lam=lam))
