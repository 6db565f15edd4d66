"""The trade-off as one HTML file that holds all it needs and works offline; a slider over lam moves every panel."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from distcond.atomic_io import atomic_write_text
from distcond.errors import ConfigError
from distcond.reporting.mpl_style import COLOURS
from distcond.reporting.per_class import ClassScores, ClassScoresKey, shown_classes
from distcond.reporting.terminal import (
    PARETO_MARK,
    POSSIBLE_MARK,
    knee_line,
    legend,
    pareto_summary,
    volume_lines,
    warning_lines,
)
from distcond.results.comparison import ComparisonGroup, MeasuredPoint
from distcond.results.lines import dial_label, shared_title
from distcond.results.pareto import XY
from distcond.results.series import Score

Plain = dict[str, Any]
BLACK = "#000000"


def write_page(
    fields: Sequence[ComparisonGroup],
    path: Path | str,
    reference: XY = (0.0, 0.0),
    classes: Mapping[ClassScoresKey, ClassScores] | None = None,
) -> Path:
    """Write the page of all fields as the whole of `path`, and return it; about 5 MB, nearly all of it plotly.js.

    Args:
        classes: SA and RA of each class at the operating points for which they are known.

    Raises:
        ConfigError: no field has a point, or plotly is missing.
    """
    if not fields:
        raise ConfigError(f"{path}: no page without an operating point at which both SA and RA were measured")
    title = " · ".join(dict.fromkeys(shared_title(field.lines)[0] or "accuracy and robustness" for field in fields))
    parts = {
        "title": html.escape(title),
        "plotly": plotly_source(),
        # Names come from users: "</script>" in one must not end the script.
        "data": json.dumps([_field(f, reference, classes or {}) for f in fields], allow_nan=False).replace(
            "<", "\\u003c"
        ),
        "script": _asset("page.js"),
    }
    # In one pass: what is put in is not looked at again.
    page = re.sub(f"@({'|'.join(parts)})@", lambda found: parts[found[1]], _asset("page.html"))
    atomic_write_text(Path(path), page)
    return Path(path)


def plotly_source() -> str:
    """plotly.js, to be put into a page.

    Raises:
        ConfigError: plotly is missing.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise ConfigError("html=FILE needs plotly: pip install 'distcond[html]'") from error
    source: str = get_plotlyjs()
    return source


def _asset(name: str) -> str:
    return resources.files("distcond.reporting").joinpath(name).read_text(encoding="utf-8")


def _field(field: ComparisonGroup, reference: XY, classes: Mapping[ClassScoresKey, ClassScores]) -> Plain:
    verdict = pareto_summary(field.points, reference)
    marks = dict.fromkeys(verdict.best, PARETO_MARK) | dict.fromkeys(verdict.possibly_pareto, POSSIBLE_MARK)
    notes = [legend(field.points, bool(verdict.possibly_pareto)), *volume_lines(field, verdict.volume, reference)]
    named = [
        classes[key] for point in field.points if (key := ClassScoresKey(field.attack, point.at, point.name)) in classes
    ]
    numbers = shown_classes(named)
    points = [
        [
            _point(p, marks.get(p, "")) | _classes(classes.get(ClassScoresKey(field.attack, p.at, p.name)), numbers)
            for p in on_line
        ]
        for on_line in field.on_line
    ]
    return {
        "attack": field.attack,
        "dial": dial_label(field.lines),
        "how": shared_title(field.lines)[1],
        "notes": [*notes, knee_line(verdict.knee), *warning_lines(field.points)],
        "lams": sorted({point.at.place.position for point in field.points}),
        "classes": [str(number) for number in numbers],
        "of_classes": len({number for by_class in named for number in by_class.classes}),
        "runs": [_run(field, index, plain) for index, plain in enumerate(points)],
    }


def _run(field: ComparisonGroup, index: int, points: list[Plain]) -> Plain:
    colour = COLOURS[index % len(COLOURS)]
    return {
        "name": field.names[index] or field.lines[index].series.origin.method,
        # Black is the colour of the text: white where the page is dark.
        "colour": "ink" if colour == BLACK else colour,
        "lone": len(field.lines) == 1,
        "shades": {"sa": COLOURS[0], "ra": COLOURS[1]},
        "points": points,
    }


def _point(point: MeasuredPoint, mark: str) -> Plain:
    return {
        "lam": point.at.place.position,
        "sa": _percents(point.sa),
        "ra": _percents(point.ra),
        "n": point.ra.examples_per_draw,
        "flops": point.flops,
        "density": point.density,
        "mark": mark + ("!" if point.warnings else ""),
    }


def _classes(by_class: ClassScores | None, numbers: list[int]) -> Plain:
    """The classes that are shown, null where a point has no example of one."""
    if by_class is None:
        return {}
    plain = {}
    for name in ("sa", "ra"):
        scores = dict(zip(by_class.classes, getattr(by_class, name), strict=True))
        plain[name] = [_percents(scores[number]) if number in scores else [None] * 3 for number in numbers]
    return {"classes": plain}


def _percents(score: Score) -> list[float]:
    return [round(100 * value, 3) for value in (score.accuracy, *score.interval)]
