"""The directory of a sweep, on disk or at a URI.

sweep.json           the question, the space, the options, what is compared and how it was measured, every start
experiment/          the experiment of Ray Tune, for `Tuner.restore`, `ResultGrid` and `ExperimentAnalysis`
runs/RUN_ID/         run directories, as those of python -m distcond.train
last_state.json      the last complete copy of the experiment's state files
confirm.json         what fresh seeds and a strong attack say about the winner
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distcond.atomic_io import open_lock, read_json, write_json
from distcond.config.schema import Config
from distcond.errors import ConfigError
from distcond.runs.code_trust import trusts_files, who_else_may_write
from distcond.runs.provenance import describe_start
from distcond.storage.uri import child_uri, is_uri, open_store, staging
from distcond.tuning import space as spaces
from distcond.tuning.objective import described, read_objective
from distcond.tuning.options import SweepOptions, read_options
from distcond.tuning.space import Space

FILE, EXPERIMENT, RUNS, CONFIRMED = "sweep.json", "experiment", "runs", "confirm.json"
LAST_STATE = "last_state.json"
SCHEMA_VERSION = 2

#: The last commit that reads sweeps of schema 1.
_SCHEMA_1 = "3f95480"

#: Files of other things that a directory may hold.
_FOREIGN = ("config.json", "tuner.pkl", "experiment_state-*.json", "job.json")


@dataclass(frozen=True)
class SweepDir:
    """A sweep on disk.

    Attributes:
        path: its directory; for a sweep at a URI the local directory with a copy of `sweep.json`.
        uri: where the sweep lies, if not in `path`.
    """

    path: Path
    uri: str = ""

    @classmethod
    def at(cls, place: str) -> SweepDir:
        """The sweep at a path or a URI. For a URI, gets its `sweep.json`.

        Raises:
            ConfigError: the URI cannot be read.
        """
        if not is_uri(place):
            return cls(Path(place).expanduser().absolute())
        sweep, store = cls(staging(place, Config().data.cache_dir, "sweeps"), place), open_store(place)
        if store.exists(FILE):
            store.get(FILE, sweep.path / FILE)
        else:
            (sweep.path / FILE).unlink(missing_ok=True)
        return sweep

    @property
    def place(self) -> str:
        """The path or the URI, as it is named on a command line."""
        return self.uri or str(self.path)

    @property
    def exists(self) -> bool:
        """Whether there is a sweep."""
        return (self.path / FILE).exists()

    @property
    def experiment(self) -> Path:
        """The experiment directory of Ray Tune, of a sweep on disk."""
        return self.path / EXPERIMENT

    @property
    def runs_root(self) -> str:
        """Where the run directories are: a path or a URI."""
        return child_uri(self.uri, RUNS) if self.uri else str(self.path / RUNS)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Within the block no other process of this machine leads this sweep.

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
                raise ConfigError(f"{self.path}: another process runs this sweep; wait for it or stop it") from error
            yield

    def begin(self, space: Space, options: SweepOptions) -> None:
        """Write `sweep.json`."""
        config = space.config({})
        objectives = [read_objective(name, config) for name in options.objective]
        self._write(
            {
                "schema_version": SCHEMA_VERSION,
                "space": space.to_plain(),
                "options": options.to_plain(),
                "compared": described(objectives, config, (options.reference[0], options.reference[1])),
                "up": [one.up for one in objectives],
                "attack_name": config.eval.attack_name,
                "starts": [],
            }
        )

    def record_start(self) -> None:
        """Append this start to `sweep.json`."""
        content = self.read()
        self._write({**content, "starts": [*content["starts"], describe_start()]})

    def read(self) -> dict[str, Any]:
        """`sweep.json`.

        Raises:
            ConfigError: no sweep here, or one of another version.
        """
        if not self.exists:
            raise ConfigError(f"{self.place}: no sweep here ({FILE} is missing); name a directory of distcond.tune")
        content = read_json(self.path / FILE)
        check_schema(content, self.path / FILE)
        return dict[str, Any](content)

    def check_free(self) -> None:
        """Check that the directory holds nothing else, before a sweep is begun in it.

        Raises:
            ConfigError: it holds a run, another experiment of Ray Tune, or a job.
        """
        found = [file.name for pattern in _FOREIGN for file in self.path.glob(pattern)]
        if not self.exists and found:
            raise ConfigError(f"dir={self.place}: holds something else ({found[0]}); set dir= to a new directory")

    def check_trusted(self) -> None:
        """Check that nobody else can have written the sweep: resuming it runs code it names and unpickles Ray's state.

        Raises:
            ConfigError: others may write it, without `trust=true`.
        """
        others = "" if trusts_files() else who_else_may_write(self.path / FILE)
        if others:
            raise ConfigError(f"{self.path}: resuming a sweep runs code from it, and {others}; valid: trust=true")

    def request(self) -> tuple[Space, SweepOptions]:
        """The space and the options of the sweep."""
        content = self.read()
        return spaces.from_plain(content["space"]), read_options(content["options"])

    def fixed(self) -> Mapping[str, Any]:
        """Settings of every run of the sweep besides those of its space."""
        return {"run_root": self.runs_root}

    def _write(self, content: dict[str, Any]) -> None:
        write_json(self.path / FILE, content)
        if self.uri:
            open_store(self.uri).put_bytes(json.dumps(content, indent=1).encode(), FILE)


def check_schema(content: Any, file: Path) -> None:
    """Check that this version reads a `sweep.json`.

    Raises:
        ConfigError: it is damaged, or of another version.
    """
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version == 1:
        raise ConfigError(f"{file}: a sweep of distcond up to commit {_SCHEMA_1}, which reads it; its runs/ are valid")
    if version != SCHEMA_VERSION:
        raise ConfigError(f"{file}: schema {version!r}; this distcond reads {SCHEMA_VERSION}")
