"""Positions and policies: where on the dial a request is answered, by the run's own measurements."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from distcond.errors import ConfigError
from distcond.results.labels import attack_label
from distcond.results.row import Attack, Row, accuracy, attack_of, key

NAMED = ("accurate", "balanced", "robust")
_TARGET = re.compile(r"(ra|sa)>=(\d+(?:\.\d+)?)(%?)")


class Measured(NamedTuple):
    """SA and RA at one position, in [0, 1]."""

    position: float
    sa: float
    ra: float


def measured_positions(
    rows: Sequence[Row], blend: str, lam: float, width: float, checkpoint: str, epoch: int
) -> tuple[tuple[Measured, ...], str]:
    """What the run's rows say of each position, and under which attack: the one most positions were measured with."""
    own = [
        row
        for row in rows
        if (row.split, row.checkpoint, row.epoch, row.blend) == ("test", checkpoint, epoch, blend)
        and row.threat == "adaptive"
        and (row.noise_mode == "none" or (row.noise_mode, row.noise_seed) == ("fixed", 0))  # the draw that is served
        and abs(row.lam - lam) < 1e-6
        and abs(row.width - width) < 1e-6
    ]
    clean = {key(row).blend_t: accuracy(row) for row in own if row.attack == "none"}
    attacked: dict[Attack, dict[float, float]] = {}
    for row in own:
        if row.attack != "none":
            attacked.setdefault(attack_of(row), {})[key(row).blend_t] = accuracy(row)
    # Of attacks at equally many positions, the strongest.
    attack = max(attacked, key=lambda one: (len(attacked[one]), -sum(attacked[one].values())), default=None)
    if attack is None:
        return (), ""
    robust = attacked[attack]
    measured = tuple(Measured(t, clean[t], robust[t]) for t in sorted(clean.keys() & robust.keys()))
    return measured, attack_label(attack)


def position_of(policy: str, measured: Sequence[Measured]) -> float:
    """The position a policy means.

    "accurate" is 0, "robust" 1, "balanced" the measured position with the largest SA + RA. "ra>=0.4" is the measured
    position of highest SA among those with that RA, "sa>=95%" the one of highest RA.

    Raises:
        ConfigError: an unknown policy, nothing measured, or a target that no position reaches.
    """
    if policy in ("accurate", "robust"):
        return float(policy == "robust")
    target = _TARGET.fullmatch(policy.replace(" ", ""))
    if policy != "balanced" and target is None:
        raise ConfigError(f"policy={policy}: valid: {', '.join(NAMED)}, ra>=0.4, sa>=95%")
    if not measured:
        raise ConfigError(f"policy={policy}: nothing is measured along this dial; name a position, dial=0.5")
    if target is None:
        return max(measured, key=lambda point: point.sa + point.ra).position
    name, level = target[1], float(target[2]) / (100 if target[3] else 1)
    able = [point for point in measured if getattr(point, name) >= level]
    if not able:
        best = max(getattr(point, name) for point in measured)
        raise ConfigError(f"policy={policy}: no measured position reaches it; the best has {name} = {best:.3g}")
    return max(able, key=lambda point: point.sa if name == "ra" else point.ra).position
