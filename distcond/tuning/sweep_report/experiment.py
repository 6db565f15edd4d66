"""The trials of a Ray Tune experiment, from its own files: `experiment_state-*.json` and each trial's `result.json`.

Only JSON is read. The pickled parts of an experiment are never loaded, so one from somebody else can be looked at.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from distcond.errors import ConfigError
from distcond.run_layout import FINISHED_FILE
from distcond.storage.uri import is_uri

#: The directory of the experiment in a sweep.
EXPERIMENT = "experiment"

#: Beside it, copies of all state files, which outlive a torn one: {file name: text}.
LAST_STATE = "last_state.json"

#: What the attribute of a trial is called in which `scheduler=pbt` leaves its past.
_PAST = "distcond_population"

Plain = dict[str, Any]


@dataclass(frozen=True)
class TrialRecord:
    """A trial as far as it is.

    Attributes:
        number: 0, 1, ... in the order of creation.
        params: settings by path; after an exploit, the present ones.
        state: waiting, running, stopped (by the scheduler), finished or failed.
        run: its run directory.
        epochs: completed epochs.
        values: the objectives at the last validation; empty before the first.
        curve: (epoch, *values) of each validation.
        sa, ra: the highest over lam at the checkpoint that the run keeps, in [0, 1].
        flops: training FLOPs of this trial, without those that a parent spent.
        seconds: of training and validation.
        error: why it failed, one line.
        lineage: of each exploit {"epoch", "trial", "run_dir", "train_flops", "params"}: parent and own settings before.
    """

    number: int
    params: Mapping[str, Any]
    state: str = "waiting"
    run: str = ""
    epochs: int = 0
    values: tuple[float, ...] = ()
    curve: tuple[tuple[float, ...], ...] = ()
    sa: float | None = None
    ra: float | None = None
    flops: float = 0.0
    seconds: float = 0.0
    error: str = ""
    lineage: tuple[Mapping[str, Any], ...] = ()

    def to_plain(self) -> Plain:
        """As JSON holds it."""
        return asdict(self)


def record_from_plain(plain: Mapping[str, Any]) -> TrialRecord:
    """The record that `to_plain` gave."""
    tuples = {name: tuple(plain[name]) for name in ("values", "lineage")}
    return TrialRecord(**{**plain, **tuples, "curve": tuple(tuple(point) for point in plain["curve"])})


def is_experiment(path: Path) -> bool:
    """Whether Ray Tune stored an experiment here."""
    return any(path.glob("experiment_state-*.json")) or (
        path.name == EXPERIMENT and path.is_dir() and (path.parent / LAST_STATE).exists()
    )


def read_trials(path: Path, objectives: Sequence[str], runs: Path | None = None) -> list[TrialRecord]:
    """The trials of the experiment in a directory, by number.

    Args:
        path: of the experiment.
        objectives: names of the values.
        runs: where the run directories are now, if the experiment was moved.

    Raises:
        ConfigError: no readable state, or trials that are no runs of distcond.
    """
    trials = []
    for number, state in enumerate(sorted(_trial_states(path), key=_creation)):
        rows = _rows(_folder(path, state))
        if rows and "run_dir" not in rows[-1]:
            what = "a report needs trials of distcond's trainable"
            raise ConfigError(f"{path}: trial {state['trial_id']} has no run_dir; {what}")
        trials.append(_record(_folder(path, state), number, state, rows, objectives, runs))
    return trials


def reported_objectives(path: Path) -> list[str]:
    """Objectives among the names in results: what was compared in an experiment without `sweep.json`."""
    names = dict.fromkeys(name for state in _trial_states(path) for row in _rows(_folder(path, state)) for name in row)
    found = [name for name in names if name == "hypervolume" or re.fullmatch(r"(sa|ra)@[\d.e-]+", name)]
    return found or ["train_flops"]


def _trial_states(path: Path) -> list[Plain]:
    """Of each trial the stored state, with what Ray stores apart under "metadata"."""
    for text in _state_texts(path):
        with suppress(ValueError, KeyError, TypeError):
            return [{**json.loads(one), "metadata": json.loads(other)} for one, other in json.loads(text)["trial_data"]]
    raise ConfigError(f"{path}: no readable experiment_state-*.json; name a directory of an experiment of Ray Tune")


def _state_texts(path: Path) -> Iterator[str]:
    """The stored states, the newest first, then the copies."""
    for file in sorted(path.glob("experiment_state-*.json"), reverse=True):
        with suppress(OSError):
            yield file.read_text(encoding="utf-8", errors="replace")
    for file in (path / LAST_STATE, path.parent / LAST_STATE):
        with suppress(OSError, ValueError):
            copies = json.loads(file.read_text(encoding="utf-8"))
            yield from (copies[name] for name in sorted(copies, reverse=True) if name.startswith("experiment_state-"))


def _creation(state: Plain) -> tuple[float, float, str]:
    """Tags begin with Ray's count of trials; the file's own order changes when an experiment is resumed."""
    found = re.match(r"\d+", str(state.get("experiment_tag")))
    return (float(found[0]) if found else math.inf, state["metadata"].get("start_time") or math.inf, state["trial_id"])


def _folder(path: Path, state: Plain) -> Path:
    return path / (state.get("relative_logdir") or "never started")


def _rows(folder: Path) -> list[Plain]:
    """Results by epoch; of an epoch that a resumed trial repeats, the last."""
    rows: dict[int, Plain] = {}
    with suppress(OSError):
        for line in (folder / "result.json").read_text(encoding="utf-8", errors="replace").splitlines():
            with suppress(ValueError):  # the line at which a process was killed
                row = json.loads(line)
                if isinstance(row, dict) and isinstance(row.get("epoch"), int):
                    rows[row["epoch"]] = row
    return [rows[epoch] for epoch in sorted(rows)]


def _record(
    folder: Path, number: int, state: Plain, rows: list[Plain], objectives: Sequence[str], runs: Path | None
) -> TrialRecord:
    last: Plain = rows[-1] if rows else {}
    run = str(last.get("run_dir", ""))
    if run and not is_uri(run) and runs is not None and (runs / Path(run).name).is_dir():
        run = str(runs / Path(run).name)
    lineage = tuple(state.get(_PAST, {}).get("lineage", ()))
    compared = [row for row in rows if all(_is_finite(row.get(name)) for name in objectives)]
    curve = tuple((float(row["epoch"]), *(float(row[name]) for name in objectives)) for row in compared)
    flops, seconds = _spent(rows, lineage)
    return TrialRecord(
        number=number,
        params={name: _plain_value(value) for name, value in state["config"].items()},
        state=_state(state["status"], last, run),
        run=run,
        epochs=last.get("epoch", 0),
        values=curve[-1][1:] if curve else (),
        curve=curve,
        sa=last.get("sa"),
        ra=last.get("ra"),
        flops=flops,
        seconds=seconds,
        error=_error(folder) if state["status"] == "ERROR" else "",
        lineage=lineage,
    )


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _state(status: str, last: Plain, run: str) -> str:
    if status == "TERMINATED":
        ended = last and (last["epoch"] >= last.get("epochs", math.inf) or (run and Path(run, FINISHED_FILE).exists()))
        return "finished" if ended else "stopped"
    return {"ERROR": "failed", "RUNNING": "running"}.get(status, "waiting")


def _spent(rows: Sequence[Plain], lineage: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """FLOPs and seconds of a trial's own; a checkpoint of a parent has the parent's FLOPs on its count."""
    starts = [(0, 0.0), *((fork["epoch"], fork["train_flops"]) for fork in lineage)]
    ends = [*(epoch for epoch, _ in starts[1:]), math.inf]
    flops, seconds = 0.0, 0.0
    for (start, inherited), end in zip(starts, ends, strict=True):
        own = [row for row in rows if start < row["epoch"] <= end]
        if own:
            flops += own[-1].get("train_flops", 0.0) - inherited
            seconds += own[-1].get("seconds", 0.0)
    return flops, seconds


def _plain_value(value: Any) -> Any:
    """Ray stores what JSON cannot hold in pickled form, which stays closed."""
    return "(object)" if isinstance(value, dict) and "CLOUDPICKLE_FALLBACK" in value.values() else value


def _error(folder: Path) -> str:
    """The last line of what Ray noted of a failure."""
    with suppress(OSError):
        lines = (folder / "error.txt").read_text(encoding="utf-8", errors="replace").splitlines()
        return next((line.strip() for line in reversed(lines) if line.strip()), "")
    return "no error.txt"
