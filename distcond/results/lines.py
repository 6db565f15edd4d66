"""The lines of a figure of several runs, widths and attacks, and the name of each.

Runs that differ in one number of their method alone (TRADES over `method.beta`, PGD-AT over `sampler.lam`) are one
point each; together they are one line, which is what a conditional network is compared with.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from distcond.config.run_id import identity_settings
from distcond.results.cost import run_dirs_below
from distcond.results.labels import attack_label, blend_label, images_label, is_pair, noise_label, threat_label
from distcond.results.row import Row
from distcond.results.series import Point, Score, Series, series_of, transfer_lam
from distcond.run_layout import CONFIG_FILE, INIT_FROM_FILE

#: Settings that say where something lies whose content decides what a run computes.
CONTENT_PATHS = ("init_from", "data.root", "data.extra")


class SweptSetting(NamedTuple):
    """The setting in which a run differs from others, its value there, and what names these others."""

    setting: str
    value: float
    group: str

    def __str__(self) -> str:
        return f"{self.setting} {self.value:g}"


def swept_settings_below(*roots: Path | str) -> dict[str, SweptSetting]:
    """Of the runs below folders, by run_id, those that differ from another in one number of their method alone."""
    settings = {run_id: _read_settings(run_dir) for run_id, run_dir in run_dirs_below(*roots).items()}
    return swept_settings({run_id: of_run for run_id, of_run in settings.items() if of_run})


def swept_settings(settings: Mapping[str, Mapping[str, Any]]) -> dict[str, SweptSetting]:
    """As `swept_settings_below`, of the settings of each run.

    A run that two settings were swept over belongs to the longer sweep.
    """
    groups: dict[str, dict[str, SweptSetting]] = {}
    for run_id, of_run in settings.items():
        for path in filter(_may_be_swept, of_run):
            value = of_run[path]
            if isinstance(value, int | float) and not isinstance(value, bool):
                group = _digest(path, of_run)
                groups.setdefault(group, {})[run_id] = SweptSetting(path, float(value), group)
    whole = [runs for runs in groups.values() if len({one.value for one in runs.values()}) == len(runs) > 1]
    found: dict[str, SweptSetting] = {}
    for runs in sorted(whole, key=len):
        found |= runs
    return found


def _may_be_swept(path: str) -> bool:
    return path.startswith("method.") or path == "sampler.lam"


def _digest(path: str, settings: Mapping[str, Any]) -> str:
    own = identity_settings(settings) | {name: settings[name] for name in CONTENT_PATHS if name in settings}
    others = {name: value for name, value in own.items() if name != path}
    return hashlib.blake2b(json.dumps([path, others], sort_keys=True).encode(), digest_size=8).hexdigest()


def _read_settings(run_dir: Path) -> dict[str, Any]:
    """What `config.json` holds; nothing where it is not there, or is not what a run writes: rows say enough."""
    try:
        found = json.loads((run_dir / CONFIG_FILE).read_text(encoding="utf-8"))["settings"]
    except (OSError, ValueError, TypeError, KeyError):
        return {}
    return {**found, **_init_from_digest(run_dir, found)} if isinstance(found, dict) else {}


def _init_from_digest(run_dir: Path, settings: Mapping[str, Any]) -> dict[str, str]:
    """`init_from` by the digest of what lay there, where the run says it: one network may lie in two places."""
    with suppress(OSError, ValueError, TypeError, KeyError):
        if settings.get("init_from"):
            return {"init_from": str(json.loads((run_dir / INIT_FROM_FILE).read_text(encoding="utf-8"))["digest"])}
    return {}


NO_NOISE = noise_label("none", 1)


class Line(NamedTuple):
    """Points of one series at one width, sorted along the dial.

    Or one point each of several runs, sorted by the setting that was swept over them: `parts` are their own lines,
    `swept_settings` says where each stands, and `series` is the first one's with all points.
    """

    series: Series
    width: float
    points: list[Point]
    parts: tuple[Line, ...] = ()
    swept: tuple[SweptSetting, ...] = ()

    @property
    def by_run(self) -> tuple[Line, ...]:
        """The lines of the single runs."""
        return self.parts or (self,)

    def pairs(self) -> list[tuple[float, Score, Score]]:
        """(lam or share of a blend, SA, RA) where both were measured."""
        return [(point.position, point.sa, point.ra) for point in self.points if point.sa and point.ra]


def lines_from_rows(rows: Iterable[Row], swept: Mapping[str, SweptSetting] | None = None) -> list[Line]:
    """One line per series and width; and one for all runs with a single point each over which a
    setting was swept (`swept`, by run_id).

    Test hides val, a saved checkpoint the live network, and the best checkpoint the last one where they are the same.
    """
    everything = series_of(rows)
    split = "test" if any(series.origin.split == "test" for series in everything) else "val"
    kept = [series for series in everything if series.origin.split == split]
    saved = [series for series in kept if series.origin.checkpoint != "live"]
    best = {_network(series) for series in saved if series.origin.checkpoint == "best"}
    shown = [series for series in saved if series.origin.checkpoint == "best" or _network(series) not in best]
    lines = [line for series in shown or kept for line in _by_width(series)]
    return _join_swept_runs(lines, swept) if swept else lines


def _join_swept_runs(lines: Sequence[Line], swept: Mapping[str, SweptSetting]) -> list[Line]:
    """The lines, those of one sweep as one, in the place of its first."""
    groups: dict[tuple[object, ...], list[tuple[Line, SweptSetting | None]]] = {}
    for number, line in enumerate(lines):
        at = swept.get(line.series.origin.run_id) if len(line.points) == 1 and line.pairs() else None
        o, n = line.series.origin, line.points[0].ra
        same = at and (at.group, line.width, o.checkpoint, n and n.examples_per_draw, *_network(line.series)[2:])
        groups.setdefault(same or (number,), []).append((line, at))
    return [_join_line(group) for group in groups.values()]


def _join_line(group: Sequence[tuple[Line, SweptSetting | None]]) -> Line:
    placed = sorted(((at, line) for line, at in group if at), key=lambda pair: pair[0].value)
    if len(placed) < 2:
        return group[0][0]
    parts, places = tuple(line for _, line in placed), tuple(at for at, _ in placed)
    points = [point for line in parts for point in line.points]
    return Line(replace(parts[0].series, points=tuple(points)), parts[0].width, points, parts, places)


def dial_label(lines: Sequence[Line]) -> str:
    """What the points of the lines are at: λ, the share t of blends, or both."""
    return " or ".join(sorted({"t" if line.series.origin.blend else "λ" for line in lines}, reverse=True))


def line_names(lines: Sequence[Line]) -> list[str]:
    """A name for each line: what differs between the lines, and a run_id only where nothing else tells them apart."""
    varying = [column for column in zip(*map(_line_facts, lines), strict=True) if len(set(column)) > 1]
    # That a method has no weight noise goes without saying, unless only this tells two lines apart.
    telling = [column for column in varying if len(set(column) - {NO_NOISE}) > 1]
    ways, origins = [telling, varying], [line.series.origin for line in lines]
    for more in ([f"blocks of {o.block_size}" for o in origins], [images_label(o) for o in origins]):
        ways += [[*columns, tuple(more)] for columns in ways] if len(set(more)) > 1 else []
    for columns in ways:
        names = _join_facts(columns, len(lines))
        if len(set(names)) == len(names):
            return names
    return [f"{name}, {line.series.origin.run_id}".lstrip(", ") for name, line in zip(names, lines, strict=True)]


def shared_title(lines: Sequence[Line]) -> tuple[str, str]:
    """What all lines have in common: a heading (method, model, dataset) and a line on how it was measured."""
    origins = [part.series.origin for line in lines for part in line.by_run]
    scores = [score for line in lines for point in line.points for score in (point.sa, point.ra) if score]
    what = [[o.method for o in origins], [o.model for o in origins], [o.dataset for o in origins]]
    how = [[_attack(line) for line in lines], [_noise(line) for line in lines], [_blend(line.series) for line in lines]]
    how += [[f"{o.split} split" for o in origins], [_checkpoint(line) for line in lines]]
    how += [[f"epoch {o.epoch}" for o in origins], [f"n = {score.examples_per_draw}" for score in scores]]
    return _shared_facts(what), _shared_facts(how)


def _join_facts(columns: Sequence[Sequence[str]], count: int) -> list[str]:
    return [", ".join(fact for fact in name if fact) for name in zip(*columns, strict=True)] or [""] * count


def _network(series: Series) -> tuple[object, ...]:
    o = series.origin
    how = (o.precision, o.noise_mode, o.eot_draws, o.block_size, o.threat, transfer_lam(o), o.images, _blend(series))
    return o.run_id, o.epoch, series.attack, *how


def _by_width(series: Series) -> list[Line]:
    widths = sorted({point.width for point in series.points}, reverse=True)
    return [Line(series, width, [p for p in series.points if p.width == width]) for width in widths]


def _line_facts(line: Line) -> tuple[str, ...]:
    o = line.series.origin
    place = o.method, o.model, o.dataset, f"width {line.width:g}", f"seed {o.seed}"
    return *place, _checkpoint(line), _attack(line), _noise(line), _blend(line.series), _sweep(line)


def _sweep(line: Line) -> str:
    return f"over {line.swept[0].setting}" if line.swept else ""


def _shared_facts(facts: Iterable[Sequence[str]]) -> str:
    """The facts on which all agree."""
    return " · ".join(fact[0] for fact in facts if len(set(fact)) == 1 and fact[0])


def _checkpoint(line: Line) -> str:
    return f"{line.series.origin.checkpoint} checkpoint"


def _attack(line: Line) -> str:
    return attack_label(line.series.attack) if line.series.attack else "SA only"


def _blend(series: Series) -> str:
    return blend_label(series.origin.blend, series.origin.lam, is_pair(series.origin.method))


def _noise(line: Line) -> str:
    origin = line.series.origin
    noise = noise_label(origin.noise_mode, line.series.draws, origin.eot_draws)
    return ", ".join(filter(None, (threat_label(origin.threat, origin.attack_lam), noise)))
