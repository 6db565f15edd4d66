"""A sweep as it lies on disk: what was asked, and one row per trial."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distcond.errors import ConfigError
from distcond.results import history

FILE = "sweep.json"
Plain = dict[str, Any]

#: Columns that every row has, before and after those of the settings and objectives.
FIRST, LAST = ("trial", "state"), ("sa", "ra", "epochs", "seconds", "train_flops", "run", "error")


@dataclass(frozen=True)
class Sweep:
    """What was asked, and the files of all trials, by number."""

    path: Path
    asked: Plain
    trials: tuple[Plain, ...]

    @property
    def name(self) -> str:
        """Of the space."""
        return str(self.asked["space"]["name"])

    @property
    def objectives(self) -> list[str]:
        """What was compared."""
        return list(self.asked["words"]["objective"])

    @property
    def up(self) -> list[bool]:
        """Of each objective, whether more is better."""
        return list(self.asked["up"])

    @property
    def settings(self) -> list[str]:
        """Paths that vary, in the order of the space; those of a function in the order in which trials brought them."""
        return list(dict.fromkeys(path for trial in self.trials for path in trial["drawn"]))

    def rows(self) -> list[Plain]:
        """One flat row per trial; None where a trial does not have it."""
        return [self._row(trial) for trial in self.trials]

    def _row(self, trial: Plain) -> Plain:
        values = trial["values"] or [None] * len(self.objectives)
        drawn = {path: trial["drawn"].get(path) for path in self.settings}
        ends = dict(zip(("sa", "ra"), self._ends(trial), strict=True))
        row = {"trial": trial["number"], "state": trial["state"], **drawn}
        row |= dict(zip(self.objectives, values, strict=True)) | ends
        row |= {"epochs": trial["epochs"], "seconds": trial["seconds"], "train_flops": trial["flops"]}
        return row | {"run": trial["run"], "error": trial["error"]}

    def _ends(self, trial: Plain) -> tuple[float | None, float | None]:
        """The highest SA and the highest RA over the lam grid, at the checkpoint that the run keeps."""
        swept = (
            [record for record in history.read(self.path / trial["run"]) if record.get("val")] if trial["run"] else []
        )
        swept = [record for record in swept if record["epoch"] <= trial["epochs"]]
        if not swept:
            return None, None
        last = [record for record in swept if record.get("stage") == swept[-1].get("stage")]
        kept = max(last, key=lambda record: record["val_score"])["val"]
        return max(at["sa"] for at in kept), max(at["ra"] for at in kept)


def is_sweep(path: Path | str) -> bool:
    """Whether a directory is one of distcond.tune."""
    return (Path(path) / FILE).is_file()


def read_sweep(path: Path | str) -> Sweep:
    """The sweep in a directory.

    Raises:
        ConfigError: there is none, or it cannot be read.
    """
    path = Path(path).expanduser().absolute()
    if not is_sweep(path):
        raise ConfigError(f"{path}: no sweep here ({FILE} is missing); name a directory of distcond.tune")
    try:
        asked = json.loads((path / FILE).read_text(encoding="utf-8"))
        files = sorted((path / "trials").glob("[0-9]*.json"))
        return Sweep(path, asked, tuple(json.loads(file.read_text(encoding="utf-8")) for file in files))
    except ValueError as error:
        raise ConfigError(f"{path}: a file of the sweep is damaged ({error})") from error
