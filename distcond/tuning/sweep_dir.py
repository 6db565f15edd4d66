"""The directory of a sweep: everything that is needed to go on with it and to read it, without Ray.

sweep.json           the question, the space, the words, what is compared and how it was measured, every start
trials/0003.json     one trial; written by the process that leads the sweep, and by no other
runs/RUN_ID/         run directories, as those of python -m distcond.train
confirm.json         what fresh seeds and a strong attack said of the winner
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distcond.atomic_io import open_lock, read_json, write_json
from distcond.config.schema import EARLIER_ATTACK_NAME
from distcond.errors import ConfigError
from distcond.runs.provenance import describe_start
from distcond.tuning import space as spaces
from distcond.tuning import trial as trials
from distcond.tuning import words as wording
from distcond.tuning.objective import described, read_objective
from distcond.tuning.space import Space
from distcond.tuning.trial import Trial
from distcond.tuning.words import Words

FILE, TRIALS, RUNS, CONFIRMED = "sweep.json", "trials", "runs", "confirm.json"
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class SweepDir:
    """A sweep on disk."""

    path: Path

    @property
    def exists(self) -> bool:
        """Whether a sweep was begun here."""
        return (self.path / FILE).exists()

    @contextmanager
    def led(self) -> Iterator[None]:
        """Within the block no other process leads this sweep.

        Raises:
            ConfigError: one does, or the directory cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = open_lock(self.path / ".lock")  # held until the sweep ends, by the with below
        except OSError as error:
            raise ConfigError(f"dir: cannot write {self.path} ({error.strerror}); set dir=DIR") from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise ConfigError(f"{self.path}: this sweep is going on in another process") from error
            yield

    def begin(self, space: Space, words: Words) -> None:
        """Write down what is asked."""
        config = space.config({})
        objectives = [read_objective(name, config) for name in words.objective]
        write_json(
            self.path / FILE,
            {
                "schema_version": SCHEMA_VERSION,
                "space": space.plain(),
                "words": wording.plain(words),
                "compared": described(objectives, config, (words.reference[0], words.reference[1])),
                "up": [one.up for one in objectives],
                "attack_name": config.eval.attack_name,
                "starts": [],
            },
        )

    def started(self) -> None:
        """Add a line on this start."""
        told = self.read()
        write_json(self.path / FILE, {**told, "starts": [*told["starts"], describe_start()]})

    def read(self) -> dict[str, Any]:
        """`sweep.json`.

        Raises:
            ConfigError: no sweep here, or one of another version.
        """
        if not self.exists:
            raise ConfigError(f"{self.path}: no sweep here ({FILE} is missing); name a directory of distcond.tune")
        told: dict[str, Any] = read_json(self.path / FILE)
        if told.get("schema_version") != SCHEMA_VERSION:
            version = told.get("schema_version")
            raise ConfigError(f"{self.path / FILE}: schema {version!r}; this distcond reads {SCHEMA_VERSION}")
        return told

    def asked(self) -> tuple[Space, Words]:
        """The space and the words the sweep was begun with."""
        told = self.read()
        return spaces.from_plain(told["space"]), wording.words_of(told["words"])

    def trials(self) -> dict[int, Trial]:
        """Every trial by its number."""
        folder = self.path / TRIALS
        files = sorted(folder.glob("[0-9]*.json")) if folder.is_dir() else []
        return {trial.number: trial for trial in (trials.from_plain(read_json(file)) for file in files)}

    def write(self, trial: Trial) -> None:
        """Write a trial down."""
        write_json(self.path / TRIALS / f"{trial.number:04d}.json", trial.plain())

    def fixed(self) -> Mapping[str, Any]:
        """Settings that every run of the sweep has besides: where it lies."""
        return {"run_root": str(self.path / RUNS)}

    def attack(self) -> Mapping[str, Any]:
        """Settings of a sweep that was begun before `eval.attack_name`: RA of all its trials is that of one attack."""
        return {"eval.attack_name": EARLIER_ATTACK_NAME} if self.exists and "attack_name" not in self.read() else {}
