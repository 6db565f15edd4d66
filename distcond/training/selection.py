"""Which epoch of a run is the best on validation: the rules of `eval.select`.

    mean   one network: the mean of SA and RA over the grid
    sa     one network: the mean of SA over the grid (SOLAR, arXiv 2509.16833)
    ra     one network: the mean of RA over the grid (Sparsity Winning Twice, arXiv 2202.09844)
    each   as mean, and besides one network per operating point and metric (OAT, arXiv 2010.11828)

The curve of a validation is its list of operating points, in the order of the run's grid, as the history keeps it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

Rule = Literal["mean", "sa", "ra", "each"]

#: What `eval.select=each` looks for at every operating point.
METRICS = ("sa", "ra")


class Winner(NamedTuple):
    """An epoch and its score on validation, in [0, 1]."""

    epoch: int
    score: float


def score(rule: Rule, curve: Sequence[Mapping[str, Any]]) -> float:
    """The score that selects the best checkpoint, in [0, 1]."""
    if rule in METRICS:
        return float(sum(at[rule] for at in curve) / len(curve))
    return float(sum(at["sa"] + at["ra"] for at in curve) / (2 * len(curve)))


def winners(rule: Rule, curve: Sequence[Mapping[str, Any]], epoch: int) -> Iterator[tuple[str, Winner]]:
    """What `rule` looks for besides the best checkpoint: name, and the score at `epoch`.

    The name is the metric and the number of the operating point on the curve, such as `ra/5`.
    """
    if rule == "each":
        for number, at in enumerate(curve):
            for metric in METRICS:
                yield f"{metric}/{number}", Winner(epoch, float(at[metric]))


def update(kept: dict[str, Winner], found: Iterator[tuple[str, Winner]]) -> None:
    """Replace winners of `kept` by those of a later epoch that score higher; of equals the earlier one stays."""
    for name, winner in found:
        if name not in kept or winner.score > kept[name].score:
            kept[name] = winner
