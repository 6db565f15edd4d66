"""What a pair of runs is called in tables and figures: after the two runs that it was made of."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from distcond.results.row import Row

#: The method of a pair's rows, and what a pair's directory says of its two runs.
PAIR, FILE = "pair", "pair.json"


def named(rows: Iterable[Row], run_dir: Path) -> list[Row]:
    """The rows of a run, those of a pair with both runs in place of its method: "pair: standard s1 + trades s0"."""
    found = list(rows)
    if not any(row.method == PAIR for row in found):
        return found
    both = _both(run_dir / FILE)
    return [replace(row, method=f"{PAIR}: {both}") if both and row.method == PAIR else row for row in found]


def is_pair(method: str) -> bool:
    """Whether a row's method, `named` or not, is a pair's."""
    return method == PAIR or method.startswith(f"{PAIR}: ")


def _both(file: Path) -> str:
    """Methods and seeds of both runs; "" where the record is not there: rows say enough."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        return " + ".join(f"{found[end]['method']} s{found[end]['seed']}" for end in ("standard", "robust"))
    except (OSError, ValueError, TypeError, KeyError):
        return ""
