"""Rows joined into series: SA and RA of one run over lam and width under one attack."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from distcond.operating_point import BLENDS, Blend, OperatingPoint
from distcond.results.interval import Interval, wilson
from distcond.results.row import Attack, Row, attack_of, highest_attempt, key


class Score(NamedTuple):
    """Counts of one point, added up over noise draws. `num_examples` counts each draw."""

    num_correct: int
    num_examples: int
    draws: int

    @property
    def accuracy(self) -> float:
        """Fraction in [0, 1], the mean over draws."""
        return self.num_correct / self.num_examples

    @property
    def interval(self) -> Interval:
        """Wilson 95 % interval. Draws share their examples, so they do not narrow it: n is that of one draw."""
        return wilson(self.num_correct / self.draws, self.num_examples / self.draws)

    @property
    def examples_per_draw(self) -> int:
        """How many different examples stand behind the accuracy."""
        return self.num_examples // self.draws


class Point(NamedTuple):
    """One place on the trade-off; a score is None where it was not measured. `warnings` are those of its rows."""

    lam: float
    width: float
    density: float
    sa: Score | None
    ra: Score | None
    warnings: tuple[str, ...] = ()
    blend: Blend = ""
    t: float = 0.0

    @property
    def place(self) -> OperatingPoint:
        """Where the network stands."""
        return OperatingPoint(self.lam, self.blend, self.t)

    @property
    def position(self) -> float:
        """Where it lies along its curve, in [0, 1]: `t` of a blend, otherwise lam."""
        return self.place.position


@dataclass(frozen=True)
class Series:
    """What one run reaches over lam and width under one attack and threat model, at the latest epoch of that attack.

    `origin` is one of its rows: it says which run, checkpoint, epoch, precision, threat and noise mode. `attack` is
    None where only SA was measured. `points` are sorted by width, lam and share of a blend.
    """

    origin: Row
    attack: Attack | None
    points: tuple[Point, ...]

    @property
    def draws(self) -> int:
        """The largest number of noise draws behind a score."""
        return max(score.draws for point in self.points for score in (point.sa, point.ra) if score)


def series_of(rows: Iterable[Row]) -> list[Series]:
    """Join SA with RA. One series per run, split, checkpoint, noise, precision, block size, blend, attack and threat.

    Each is of one set of images: no line of a table mixes accuracies over different ones. Attacks that
    transfer make one series for each lam they were optimised at. Of several epochs the latest counts, and SA is taken
    from the epoch of RA. Noise seeds are added up.
    """
    groups: dict[tuple[str | int | float, ...], list[Row]] = {}
    for row in highest_attempt(rows):
        how = (row.noise_mode, row.eot_draws, row.precision, row.block_size, row.images)
        group = (row.run_id, row.split, row.checkpoint, *how, row.blend, key(row).lam if row.blend else 0.0)
        groups.setdefault(group, []).append(row)
    return [series for _, group in sorted(groups.items()) for series in _of_one_network(group)]


def _of_one_network(rows: list[Row]) -> list[Series]:
    clean = [row for row in rows if row.attack == "none"]
    attacked: dict[tuple[Attack, str, float], list[Row]] = {}
    for row in rows:
        if row.attack != "none":
            attacked.setdefault((attack_of(row), row.threat, transfer_lam(row)), []).append(row)
    if not attacked:
        return [_series(clean, [], None)]
    return [_series(clean, attacked[how], how[0]) for how in sorted(attacked)]


def transfer_lam(row: Row) -> float:
    """The lam at which an attack that transfers was optimised; -1 where there is no single one."""
    return key(row).attack_lam if row.threat == "transfer" else -1.0


def _series(clean: list[Row], attacked: list[Row], attack: Attack | None) -> Series:
    epoch = max(row.epoch for row in attacked or clean)
    sa, ra = ([row for row in rows if row.epoch == epoch] for rows in (clean, attacked))
    places = {_place(row): row for row in sa + ra}
    found = [_point(row, _score(sa, at), _score(ra, at), _warnings(sa + ra, at)) for at, row in _in_order(places)]
    return Series((ra or sa)[0], attack, tuple(found))


def _in_order(places: dict[tuple[float, float, float], Row]) -> list[tuple[tuple[float, float, float], Row]]:
    return sorted(places.items(), key=lambda item: item[0])


def _point(row: Row, sa: Score | None, ra: Score | None, warnings: tuple[str, ...]) -> Point:
    at = key(row)
    return Point(at.lam, at.width, row.density, sa, ra, warnings, _blend(row), at.blend_t)


def _blend(row: Row) -> Blend:
    return BLENDS[BLENDS.index(row.blend)]


def _place(row: Row) -> tuple[float, float, float]:
    what = key(row)
    return what.width, what.lam, what.blend_t


def _at(rows: list[Row], place: tuple[float, float, float]) -> list[Row]:
    return [row for row in rows if _place(row) == place]


def _warnings(rows: list[Row], place: tuple[float, float, float]) -> tuple[str, ...]:
    names = {name.strip() for row in _at(rows, place) for name in row.warnings.split(",")}
    return tuple(sorted(names - {""}))


def _score(rows: list[Row], place: tuple[float, float, float]) -> Score | None:
    draws = _at(rows, place)
    if not draws:
        return None
    return Score(sum(r.num_correct for r in draws), sum(r.num_examples for r in draws), len(draws))
