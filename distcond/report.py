"""Read results: `python -m distcond.report RUN_DIR_OR_ROOT ...` prints tables and draws the curves in one figure."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from distcond.config.command_line import guarded
from distcond.errors import ConfigError
from distcond.results.plot import trade_off_png
from distcond.results.row import Row
from distcond.results.store import read_rows
from distcond.results.table import trade_off_table


def main(argv: Sequence[str]) -> int:
    """Test rows of the best checkpoints of all runs found, as a table each and one figure."""
    if not argv or argv[0] in ("--help", "-h"):
        print(__doc__)
        return 0
    rows: list[Row] = []
    for place in argv:
        found = [row for row in read_rows(Path(place).expanduser()) if (row.split, row.checkpoint) == ("test", "best")]
        if not found:
            raise ConfigError(f"{place}: no test rows here; name a finished run or a directory of runs")
        rows += found
    print(trade_off_table(rows))
    figure = trade_off_png(rows, Path(argv[0]).expanduser() / "curves.png")
    if figure is not None:
        print(f"\nfigure: {figure}")
    return 0


if __name__ == "__main__":
    guarded(lambda: main(sys.argv[1:]))
