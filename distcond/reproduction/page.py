"""The page of a reproduction: measured figures with 95 % intervals beside published ones, as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from distcond.atomic_io import read_json
from distcond.config.schema import Config
from distcond.recipes.sparsity_winning_twice import PublishedRow
from distcond.reproduction.tables import Network, Table
from distcond.results import history
from distcond.results.row import Row, accuracy, interval, position
from distcond.results.store import read_rows
from distcond.run_layout import FINISHED_FILE

_COLUMNS = ("network", "lam", "width", "", "SA best", "RA best", "SA last", "RA last", "gap")
_COSTS = ("network", "parameters", "non-zero weights", "density", "training FLOPs", "training seconds", "run")


class Line(NamedTuple):
    """A network of the page."""

    network: Network
    config: Config
    run: Path  # its directory, which may not exist yet
    published: PublishedRow | str


def page(of: Table, lines: Sequence[Line], scale: str, command: str) -> str:
    """The page as Markdown.

    Args:
        of: the table.
        lines: its networks.
        scale: of the runs.
        command: which makes the page.
    """
    paper = of.paper
    return "\n".join(
        [
            f"# {paper.title} (arXiv {paper.arxiv}, {paper.venue}) at scale={scale}",
            "",
            f"Made by `{command}`. In %, with half of the 95 % interval (Wilson) of the test images. Best is the "
            "checkpoint chosen on validation, last the end of training; the gap is RA on training images minus RA on "
            f"test, of the last checkpoint. {_attack(lines)}",
            "",
            *_table(_COLUMNS, [row for line in lines for row in _result_rows(line)]),
            "",
            "Claims of the paper:",
            "",
            *(f"- {claim}" for claim in of.claims),
            "",
            *_table(_COSTS, [_cost_row(line) for line in lines]),
            "",
            "`python -m distcond.train RECIPE --help` lists how each recipe deviates from the paper.",
            "",
        ]
    )


def _attack(lines: Sequence[Line]) -> str:
    attack, name = lines[0].config.eval.attack, lines[0].config.eval.attack_name
    steps = (
        f"{name} with {attack.num_steps} steps of {attack.step_size:.4g}, epsilon {attack.epsilon:.4g} {attack.norm}"
    )
    return f"RA is under {steps}."


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [columns, ["---"] * len(columns), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def _result_rows(line: Line) -> list[list[str]]:
    return [*_measured(line), _published(line)]


def _published(line: Line) -> list[str]:
    row, label = line.published, line.network.label
    if isinstance(row, str):
        return [label, "", "", "published", *[row] * 5]
    figures = (row.sa_best, row.ra_best, row.sa_last, row.ra_last, row.gap)
    return [label, "", "", "published", *(f"{figure:.2f}" for figure in figures)]


def _measured(line: Line) -> list[list[str]]:
    finished = _finished(line)
    if finished is None:
        return [[line.network.label, "", "", "measured", *["not run yet"] * 5]]
    found = {_place(row): row for row in read_rows(line.run) if row.split == "test"}
    rows = list[list[str]]()
    for point in finished["points"]:
        lam, width = round(point["lam"], 6), round(point["width"], 6)
        cells = [found.get((which, lam, width, kind)) for which in ("best", "last") for kind in ("sa", "ra")]
        gap = point["robust_generalization_gap"]
        numbers = [*map(_percent, cells), "not measured" if gap is None else f"{100 * gap:.2f}"]
        rows.append([line.network.label, f"{lam:g}", f"{width:g}", "measured", *numbers])
    return rows


def _place(row: Row) -> tuple[str, float, float, str]:
    return row.checkpoint, position(row), round(row.width, 6), "sa" if row.attack == "none" else "ra"


def _percent(row: Row | None) -> str:
    return "not measured" if row is None else f"{100 * accuracy(row):.2f} ± {100 * interval(row).half_width:.2f}"


def _cost_row(line: Line) -> list[str]:
    finished = _finished(line)
    if finished is None:
        return [line.network.label, *["not run yet"] * (len(_COSTS) - 2), line.run.name]
    point = max(finished["points"], key=lambda each: (each["width"], each["lam"]))
    seconds = sum(float(record.get("seconds") or 0.0) for record in history.read(line.run))
    return [
        line.network.label,
        f"{finished['parameters']:,}",
        f"{point['nonzeros']:,}",
        f"{point['density']:.3f}",
        f"{finished['train_flops']:.3e}",
        f"{seconds:.0f}",
        line.run.name,
    ]


def _finished(line: Line) -> dict[str, Any] | None:
    file = line.run / FINISHED_FILE
    return dict[str, Any](read_json(file)) if file.exists() else None
