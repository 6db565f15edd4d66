"""Rows joined into series: SA and RA of one run over lam and width under one attack."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from distcond.operating_point import Blend, OperatingPoint
from distcond.results.interval import Interval, wilson
from distcond.results.row import Attack, Row, attack_of, highest_attempt, key


class Score(NamedTuple):
    """Counts of one point, summed over noise draws. `num_examples` counts every draw."""

    num_correct: int
    num_examples: int
    draws: int

    @property
    def accuracy(self) -> float:
        """The fraction in [0, 1], averaged over draws."""
        return self.num_correct / self.num_examples

    @property
    def interval(self) -> Interval:
        """The Wilson 95 % interval. Draws share their examples and do not narrow it: n is the n of one draw."""
        return wilson(self.num_correct / self.draws, self.num_examples / self.draws)

    @property
    def examples_per_draw(self) -> int:
        """The number of different examples."""
        return self.num_examples // self.draws


class PointKey(NamedTuple):
    """One network of a run. `point` has numbers rounded to 1e-6, and noise seed 0: scores are sums over noise draws."""

    run_id: str
    point: OperatingPoint

    @classmethod
    def of(cls, run_id: str, lam: float, width: float, blend: Blend = "", t: float = 0.0) -> PointKey:
        """The key with rounded numbers."""
        return cls(run_id, OperatingPoint(round(lam, 6), blend, round(t, 6), round(width, 6)))


class Point(NamedTuple):
    """One measured point of a series. A score is None if it was not measured. `warnings` are those of its rows."""

    at: PointKey
    density: float
    sa: Score | None
    ra: Score | None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Series:
    """SA and RA of one run over lam and width, under one attack and threat model, at that attack's latest epoch.

    `origin` is one of the rows; it holds the run, checkpoint, epoch, precision, threat and noise mode. `attack` is None
    if only SA was measured. `points` are sorted by width, lam and share of a blend.
    """

    origin: Row
    attack: Attack | None
    points: tuple[Point, ...]

    @property
    def draws(self) -> int:
        """The largest number of noise draws in a score."""
        return max(score.draws for point in self.points for score in (point.sa, point.ra) if score)


def series_of(rows: Iterable[Row]) -> list[Series]:
    """Join SA with RA: one series per run, split, checkpoint, noise, precision, block size, blend, attack and threat.

    A series covers one set of images, so no line of a table mixes accuracies over different ones. Transfer attacks make
    one series per lam they were optimised at. The latest epoch of an attack counts, with the SA of the same epoch;
    checkpoint "each" has one epoch per point and metric.
    Counts are summed over noise seeds.
    """
    groups: dict[tuple[str | int | float, ...], list[Row]] = {}
    for row in highest_attempt(rows):
        protocol = (row.noise_mode, row.eot_draws, row.precision, row.block_size, row.images)
        group = (row.run_id, row.split, row.checkpoint, *protocol, row.blend, key(row).lam if row.blend else 0.0)
        groups.setdefault(group, []).append(row)
    return [series for _, group in sorted(groups.items()) for series in _split_by_attack(group)]


def transfer_lam(row: Row) -> float:
    """The lam at which a transfer attack was optimised; -1 for every other threat."""
    return key(row).attack_lam if row.threat == "transfer" else -1.0


def _split_by_attack(rows: list[Row]) -> list[Series]:
    clean = [row for row in rows if row.attack == "none"]
    attacked: dict[tuple[Attack, str, float], list[Row]] = {}
    for row in rows:
        if row.attack != "none":
            attacked.setdefault((attack_of(row), row.threat, transfer_lam(row)), []).append(row)
    if not attacked:
        return [_series(clean, [], None)]
    return [_series(clean, attacked[group], group[0]) for group in sorted(attacked)]


def _series(clean: list[Row], attacked: list[Row], attack: Attack | None) -> Series:
    epoch = max(row.epoch for row in attacked or clean)
    each = any(row.checkpoint == "each" for row in clean + attacked)
    sa, ra = ([row for row in rows if each or row.epoch == epoch] for rows in (clean, attacked))
    by_point: dict[PointKey, tuple[list[Row], list[Row]]] = {}
    for kind, rows in enumerate((sa, ra)):
        for row in rows:
            by_point.setdefault(_point_key(row), ([], []))[kind].append(row)
    points = [_point(at, *by_point[at]) for at in sorted(by_point, key=_order)]
    return Series((ra or sa)[0], attack, tuple(points))


def _order(at: PointKey) -> tuple[float, float, float]:
    return at.point.width, at.point.lam, at.point.t


def _point_key(row: Row) -> PointKey:
    return PointKey.of(row.run_id, row.lam, row.width, row.point.blend, row.blend_t)


def _point(at: PointKey, sa: list[Row], ra: list[Row]) -> Point:
    warnings = {name.strip() for row in sa + ra for name in row.warnings.split(",")} - {""}
    return Point(at, (sa + ra)[-1].density, _score(sa), _score(ra), tuple(sorted(warnings)))


def _score(draws: list[Row]) -> Score | None:
    if not draws:
        return None
    return Score(sum(row.num_correct for row in draws), sum(row.num_examples for row in draws), len(draws))
