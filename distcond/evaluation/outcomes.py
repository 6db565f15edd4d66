"""What became of every example of a block, in one small file that is either whole or absent."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from distcond.atomic_io import atomic_write
from distcond.errors import ConfigError

#: `broken_by` of an example that is right, clean and under every stage of the attack.
ROBUST = -1
#: Of one that is wrong without any attack. Stages of an attack count from 1.
WRONG = 0

_STATISTIC = "statistic."


@dataclass(frozen=True)
class Outcome:
    """One block under one attack.

    Attributes:
        examples: (n,) int64, which examples of the split.
        labels: (n,) int64, their classes.
        broken_by: (n,) int8: ROBUST, WRONG, or the number of the stage that broke it.
        forward_rows: images passed forward for it; a backward pass costs about as much again and is not counted.
        seconds: wall time.
        statistics: what else was measured on the block, by name.
    """

    examples: np.ndarray
    labels: np.ndarray
    broken_by: np.ndarray
    forward_rows: int
    seconds: float
    statistics: dict[str, float] = field(default_factory=dict)

    @property
    def correct(self) -> np.ndarray:
        """Which examples count as right, (n,) bool."""
        return np.asarray(self.broken_by == ROBUST)


def file_name(block: int, examples: int) -> str:
    """The name of a block's file. The short block at the end of fewer examples stands beside the whole one."""
    return f"block-{block:05d}-n{examples}.npz"


def write(path: Path, outcome: Outcome) -> None:
    """Write a block's file; the folder is made if it is missing."""
    extra = {_STATISTIC + name: np.float64(value) for name, value in outcome.statistics.items()}
    with atomic_write(path) as aside, open(aside, "wb") as file:
        np.savez(
            file,
            examples=outcome.examples.astype(np.int64),
            labels=outcome.labels.astype(np.int64),
            broken_by=outcome.broken_by.astype(np.int8),
            forward_rows=np.int64(outcome.forward_rows),
            seconds=np.float64(outcome.seconds),
            **extra,  # type: ignore[arg-type]
        )


def read(path: Path, examples: np.ndarray | None = None) -> Outcome:
    """The outcome in a file, of the examples (n,) that are known to be in it or of any. Nothing is unpickled.

    Raises:
        ConfigError: not a whole file of exactly these examples; the message says what to do.
    """
    try:
        with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            held = {name: file[name] for name in file.files}
        outcome = Outcome(
            held["examples"],
            held["labels"],
            held["broken_by"],
            int(held["forward_rows"]),
            float(held["seconds"]),
            {name.removeprefix(_STATISTIC): float(v) for name, v in held.items() if name.startswith(_STATISTIC)},
        )
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError) as error:
        # RuntimeError: zipfile's, where damage looks like encryption or a method of compression it does not know.
        raise _unreadable(path, type(error).__name__) from error
    shapes = {outcome.labels.shape, outcome.broken_by.shape}
    if examples is None:
        examples = outcome.examples
    if not np.array_equal(outcome.examples, examples) or shapes != {examples.shape}:
        raise _unreadable(path, "other examples")
    return outcome


def _unreadable(path: Path, why: str) -> ConfigError:
    return ConfigError(f"{path} is no outcome of this block ({why}); delete it and the same command counts it again")
