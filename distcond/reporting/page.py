"""The trade-off as one self-contained HTML file that works offline, with a slider over lam for all panels."""

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
from distcond.reporting.terminal import pareto_summary, summary_lines
from distcond.results.comparison import ComparisonGroup, MeasuredPoint
from distcond.results.lines import dial_label, shared_title
from distcond.results.pareto import XY
from distcond.results.series import Score

Json = dict[str, Any]
BLACK = "#000000"


def write_page(
    groups: Sequence[ComparisonGroup],
    path: Path | str,
    reference: XY = (0.0, 0.0),
    classes: Mapping[ClassScoresKey, ClassScores] | None = None,
) -> Path:
    """Write the page of all groups to `path` and return it. About 5 MB, nearly all of it plotly.js.

    Args:
        groups: Comparison groups with points.
        path: The file to write.
        reference: (SA, RA) above which hypervolumes are measured.
        classes: SA and RA per class, where known.

    Raises:
        ConfigError: there is no group, or plotly is missing.
    """
    if not groups:
        raise ConfigError(f"{path}: no page without an operating point at which both SA and RA were measured")
    title = " · ".join(dict.fromkeys(shared_title(group.lines)[0] or "accuracy and robustness" for group in groups))
    data = json.dumps([_group(group, reference, classes or {}) for group in groups], allow_nan=False)
    parts = {
        "title": html.escape(title),
        "plotly": plotly_source(),
        # Names come from users: "</script>" in one must not end the script.
        "data": data.replace("<", "\\u003c"),
        "script": _asset("page.js"),
    }
    # One pass, so that placeholders in inserted text stay.
    page = re.sub(f"@({'|'.join(parts)})@", lambda match: parts[match[1]], _asset("page.html"))
    atomic_write_text(Path(path), page)
    return Path(path)


def plotly_source() -> str:
    """The source of plotly.js.

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


def _group(group: ComparisonGroup, reference: XY, classes: Mapping[ClassScoresKey, ClassScores]) -> Json:
    summary = pareto_summary(group.points, reference)
    keys = {point: ClassScoresKey(group.attack, point.at, point.name) for point in group.points}
    with_classes = [classes[key] for key in keys.values() if key in classes]
    shown = shown_classes(with_classes)
    points = [
        [_point(p, summary.marks.get(p, "")) | _classes(classes.get(keys[p]), shown) for p in of_line]
        for of_line in group.points_by_line
    ]
    return {
        "attack": group.attack,
        "dial": dial_label(group.lines),
        "how": shared_title(group.lines)[1],
        "notes": summary_lines(group, summary, reference),
        "lams": sorted({point.at.point.position for point in group.points}),
        "classes": [str(number) for number in shown],
        "of_classes": len({number for by_class in with_classes for number in by_class.classes}),
        "runs": [_run(group, index, of_run) for index, of_run in enumerate(points)],
    }


def _run(group: ComparisonGroup, index: int, points: list[Json]) -> Json:
    colour = COLOURS[index % len(COLOURS)]
    return {
        "name": group.names[index] or group.lines[index].series.origin.method,
        # Black is drawn in the colour of the text, which is white on a dark page.
        "colour": "ink" if colour == BLACK else colour,
        "lone": len(group.lines) == 1,
        "shades": {"sa": COLOURS[0], "ra": COLOURS[1]},
        "points": points,
    }


def _point(point: MeasuredPoint, mark: str) -> Json:
    return {
        "lam": point.at.point.position,
        "sa": _percents(point.sa),
        "ra": _percents(point.ra),
        "n": point.ra.examples_per_draw,
        "flops": point.flops,
        "density": point.density,
        "mark": mark + ("!" if point.warnings else ""),
    }


def _classes(by_class: ClassScores | None, shown: list[int]) -> Json:
    """SA and RA of the shown classes, null for a class without examples."""
    if by_class is None:
        return {}
    accuracies = {}
    for name in ("sa", "ra"):
        scores = dict(zip(by_class.classes, getattr(by_class, name), strict=True))
        accuracies[name] = [_percents(scores[number]) if number in scores else [None] * 3 for number in shown]
    return {"classes": accuracies}


def _percents(score: Score) -> list[float]:
    """Accuracy, lower and upper bound in %."""
    return [round(100 * value, 3) for value in (score.accuracy, *score.interval)]
