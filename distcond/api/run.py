"""`Run`: one run for notebooks and scripts, with its results as data frames and its networks as modules."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from distcond.api.frames import curve_frame, to_frame
from distcond.api.html import run_as_html
from distcond.api.selection import CurveQuery, select_rows
from distcond.config.schema import Config
from distcond.errors import ConfigError
from distcond.exporting.folder import is_exported
from distcond.models.conditional import ConditionalModel
from distcond.models.dial import network_at
from distcond.operating_point import OperatingPoint
from distcond.results import history
from distcond.results.labels import name_pairs
from distcond.results.row import Row
from distcond.results.store import read_runs
from distcond.results.store import to_frame as rows_to_frame
from distcond.runs.grid import point_at
from distcond.runs.load_run import load
from distcond.runs.run_cache import fetch_run
from distcond.runs.run_dir import RunDir
from distcond.storage.uri import is_uri

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure


class Run:
    """A finished or unfinished run of `python -m distcond.train` or `distcond.train`.

        run = distcond.Run("runs/float-...")
        run.curve()                    # SA and RA along the dial
        network = run.network(0.5)     # x in [0, 1] -> logits

    Files are read when a method is called, so the values of a run that is still training move on.

    Args:
        place: the run's directory, or its URI. `distcond.load` takes the same and returns the network at once.

    Attributes:
        place: as given.

    Raises:
        ConfigError: no run there, or one that this version cannot read.
    """

    def __init__(self, place: str | Path) -> None:
        self.place = place if is_uri(str(place)) else Path(place).expanduser().absolute()
        path = fetch_run(self.place, checkpoints=False)
        if is_exported(path):
            raise ConfigError(f"{place}: an export, not a run; distcond.load reads it")
        RunDir(path).config()
        self._path = path

    @property
    def path(self) -> Path:
        """The run's directory; of a run at a URI, that of an up-to-date local copy."""
        return fetch_run(self.place, checkpoints=False) if is_uri(str(self.place)) else self._path

    @property
    def name(self) -> str:
        """The run ID."""
        return self._path.name

    @property
    def config(self) -> Config:
        """All settings of the run."""
        run = RunDir(self._path)
        return run.continued(run.config())

    @property
    def finished(self) -> bool:
        """Whether it has trained to its end."""
        return RunDir(self.path).finished

    def results(self) -> pandas.DataFrame:
        """Every measurement of the run, one line each.

        Columns are the fields of `distcond.results.row.Row` (counts, and all that identifies what was counted) and
        `accuracy` in [0, 1].
        """
        return rows_to_frame(self._rows(self.path))

    def curve(
        self,
        attack: str | None = None,
        dial: str | None = None,
        *,
        split: str = "test",
        checkpoint: str = "best",
        threat: str = "adaptive",
    ) -> pandas.DataFrame:
        """Standard and robust accuracy along the dial, one line per operating point.

        Args:
            attack: name of the attack behind RA, at every strength it was measured with; None = the attack that the run
                itself used, at its strength; "none" = SA alone.
            dial: what moves: "switch" (lam), "weights", "outputs", of a pair also "mixednuts" and "folded"; None = the
                dial of the run (`eval.dial`).
            split: "test" or "val". Points chosen on test look better there than they are: choose on "val".
            checkpoint: "best", "last" or "last_raw".
            threat: "adaptive" (the attacker knows the operating point), "transfer" or "worst".

        Returns:
            A frame with `dial` in [0, 1], `width`, `sa` and `ra` in [0, 1], the bounds of their Wilson 95 % intervals
            (`sa_low`, `sa_high`, `ra_low`, `ra_high`), `num_examples`, and what was measured (attack, epsilon, ...).

        Raises:
            ConfigError: not measured; the message names what was.
        """
        query = CurveQuery(attack=attack or "", dial=dial or "", split=split, checkpoint=checkpoint, threat=threat)
        return curve_frame(self._select(query))

    def history(self) -> pandas.DataFrame:
        """One line per epoch: `epoch`, `train_loss`, `lr`, `images_per_second`, `val` (SA and RA per point) ..."""
        return to_frame(history.read(self.path))

    def model(self, checkpoint: str = "best", device: torch.device | str = "cpu") -> ConditionalModel:
        """The conditional network, in eval mode, as `distcond.load` returns it.

        Args:
            checkpoint: "best" (mean of SA and RA over the grid, on validation), "last", or "last_raw" = without weight
                averaging.
            device: where to put it.

        Raises:
            ConfigError: no checkpoint yet.
        """
        return load(self.place, checkpoint, device)

    def network(
        self,
        point: float | OperatingPoint,
        *,
        checkpoint: str = "best",
        device: torch.device | str = "cpu",
        width: float = 1.0,
        noise_seed: int = 0,
    ) -> nn.Module:
        """The network at one position of the dial: x in [0, 1] (N, 3, H, W) to logits (N, K). Differentiable in x.

        Args:
            point: position in [0, 1] on the dial of the run (`eval.dial`, `eval.dial_lam`), 0 = most accurate, 1 = most
                robust; or an `OperatingPoint`.
            checkpoint: as of `model`.
            device: where to put it.
            width: width multiplier, for networks with several.
            noise_seed: seed of the weight noise.

        Raises:
            ConfigError: a position outside [0, 1], a width the network does not have, or no checkpoint yet.
        """
        model = self.model(checkpoint, device)
        return network_at(model, as_operating_point(self, point), width, noise_seed)

    def plot(self, attack: str | None = None, dial: str | None = None, *, split: str = "test") -> Figure:
        """SA against RA, and both along the dial, with 95 % intervals.

        Args:
            attack: as of `curve`.
            dial: as of `curve`.
            split: as of `curve`.

        Raises:
            ConfigError: not measured, or matplotlib is missing.
        """
        from distcond.reporting.mpl_style import has_matplotlib
        from distcond.reporting.trade_off_plot import draw_trade_off
        from distcond.results.lines import lines_from_rows

        rows = self._select(CurveQuery(attack=attack or "", dial=dial or "", split=split))
        if not has_matplotlib():
            raise ConfigError("figures need matplotlib: pip install matplotlib")
        return draw_trade_off(lines_from_rows(rows))

    def evaluate(self, attack: str | Sequence[str] | None = None, **options: Any) -> pandas.DataFrame:
        """`distcond.evaluate(self, attack, **options)`."""
        from distcond.api.evaluation import evaluate

        return evaluate(self, attack, **options)

    def export(self, points: float | OperatingPoint | Sequence[float | OperatingPoint], **options: Any) -> list[Path]:
        """`distcond.export(self, points, **options)`."""
        from distcond.api.exporting import export

        return export(self, points, **options)

    def __repr__(self) -> str:
        return f"Run({str(self.place)!r})"

    def _repr_html_(self) -> str:
        return run_as_html(self)

    def _select(self, query: CurveQuery) -> list[Row]:
        return select_rows(self._rows(self.path), query, self.config)

    def _rows(self, path: Path) -> list[Row]:
        # Not those of runs in folders below.
        return name_pairs(read_runs([path]).get(path.resolve(), []), path)


def as_operating_point(run: Run, point: float | OperatingPoint) -> OperatingPoint:
    """The operating point at a position of the run's dial; an operating point as it is.

    Raises:
        ConfigError: a position outside [0, 1], or an invalid point.
    """
    if isinstance(point, OperatingPoint):
        return point.checked()
    return point_at(run.config, float(point))


def open_run(run: Run | str | Path) -> Run:
    """A run, or the run at a path or URI."""
    return run if isinstance(run, Run) else Run(run)
