"""Selects the result rows of one curve of a run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from distcond.config.fields import check_choice
from distcond.config.schema import Config, EvalConfig
from distcond.errors import ConfigError
from distcond.results.labels import is_pair
from distcond.results.row import SPLITS, THREATS, Row


@dataclass(frozen=True, kw_only=True)
class CurveQuery:
    """Which rows make a curve.

    Attributes:
        attack: name of the attack; "" for the run's own, at the strength of its config.
        dial: what moves along the curve (`eval.dial`); "" for the run's own.
        split: "test" or "val".
        checkpoint: "best", "last" or "last_raw".
        threat: "adaptive", "transfer" or "worst".
    """

    attack: str = ""
    dial: str = ""
    split: str = "test"
    checkpoint: str = "best"
    threat: str = "adaptive"


def select_rows(rows: Sequence[Row], query: CurveQuery, config: Config) -> list[Row]:
    """The rows of a curve: those under the attack, and the clean ones of the same images.

    Of several sets of images the largest counts, of several robust ends of a blend that of the run (`eval.dial_lam`),
    and without `query.attack` those under one fixed draw of the noise.

    Args:
        rows: of one run.
        query: which curve.
        config: the run's.

    Raises:
        ConfigError: nothing was measured there; the message says what was.
    """
    check_choice("split", query.split, SPLITS)
    check_choice("threat", query.threat, THREATS)
    rule = query.dial or config.eval.dial
    attack = query.attack or config.eval.attack_name
    here = [row for row in _of_checkpoint(rows, query) if (row.blend or "switch") == rule]
    if rule != "switch":  # a blend with another robust end is another dial; the run's own counts, as in `Run.network`
        here = [row for row in here if math.isclose(row.lam, config.eval.dial_lam, abs_tol=1e-6)] or here
    if not query.attack:  # the run itself measures one fixed draw of the noise
        here = [row for row in here if row.noise_mode in ("none", "fixed")]
    counted = [row for row in here if row.attack == attack and (attack == "none" or row.threat == query.threat)]
    counted = [row for row in counted if query.attack or _has_own_strength(row, config.eval)]
    if not counted:
        raise ConfigError(_describe_missing(rows, query, f"attack={attack} dial={rule}"))
    largest = max(row.num_examples for row in counted)
    images = {row.images for row in counted if row.num_examples == largest}
    clean = [row for row in here if row.attack == "none" and attack != "none"]
    return [row for row in (*clean, *counted) if row.images in images and row.num_examples == largest]


def _of_checkpoint(rows: Sequence[Row], query: CurveQuery) -> list[Row]:
    """Rows of the split and checkpoint; on validation without such, those of the network during training."""
    of_split = [row for row in rows if row.split == query.split]
    # A pair has one checkpoint, whichever it was made of.
    found = [row for row in of_split if row.checkpoint == query.checkpoint or is_pair(row.method)]
    return found or [row for row in of_split if row.checkpoint == "live" and query.checkpoint == "best"]


def _has_own_strength(row: Row, settings: EvalConfig) -> bool:
    """Whether a row was measured with the attack of the run's config, in validation with its number of steps there."""
    attack = settings.attack
    steps = settings.val_steps if row.checkpoint == "live" else attack.num_steps
    lengths = (row.epsilon, attack.epsilon), (row.step_size, attack.step_size)
    same = (row.norm, row.num_steps, row.restarts) == (attack.norm, steps, attack.restarts)
    return same and all(math.isclose(one, other, rel_tol=1e-4) for one, other in lengths)


def _describe_missing(rows: Sequence[Row], query: CurveQuery, wanted: str) -> str:
    measured = {
        f"attack={row.attack} dial={row.blend or 'switch'}" for row in rows if row.split == query.split
    }  # fmt: skip
    where = f"split={query.split} checkpoint={query.checkpoint} threat={query.threat}"
    if not measured:
        return f"{wanted}: nothing was measured on split={query.split} yet; let the run finish, or call its evaluate()"
    return f"{wanted}: not measured with {where}; measured: {', '.join(sorted(measured))}; evaluate() measures others"
