"""Reads the small files of a run that say how far it is. Damaged ones are named and count as missing. No torch."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from distcond.results.cost import is_summary
from distcond.results.history import Record, is_record
from distcond.run_layout import ATTEMPT_FILE, CONFIG_FILE, FINISHED_FILE, HISTORY_FILE, PROGRESS_FILE, STARTS_FILE

T = TypeVar("T")

#: Bytes to read from the end of a history.
TAIL_BYTES = 64 * 1024

_PROGRESS_NUMBERS = ("time", "epoch", "epochs", "step", "steps", "done", "seconds_left", "images_per_second")


class StatusFiles(Protocol):
    """Access to the small files of a run: `RunFiles` on this machine, `StoredRun` at a URI."""

    @property
    def place(self) -> str: ...
    def content(self, name: str, last: int = 0) -> bytes | None: ...
    def names(self, folder: str) -> dict[str, float]: ...


@dataclass
class StateFiles:
    """The content of a run's state files; empty where one is missing or damaged.

    Attributes:
        progress: of `progress.json`.
        finished: of `finished.json`; None of an unfinished run.
        starts: of `starts.json`.
        records: the last records of the history, oldest first.
        attempt: of `attempt.json`.
        damaged: names of damaged files.
    """

    progress: dict[str, Any] = field(default_factory=dict)
    finished: dict[str, Any] | None = None
    starts: list[dict[str, Any]] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    attempt: int | None = None
    damaged: list[str] = field(default_factory=list)

    @property
    def remark(self) -> str:
        """The damaged files as text; "" without any."""
        return f"damaged: {', '.join(self.damaged)}" if self.damaged else ""


def read_state_files(files: StatusFiles) -> StateFiles:
    """Read the state files of a run."""
    found = StateFiles()

    def read(name: str, is_valid: Callable[[Any], bool]) -> Any:
        content = files.content(name)
        value = None if content is None else _parse(content)
        if content is None or is_valid(value):
            return value
        found.damaged.append(name)
        return None

    read(CONFIG_FILE, lambda value: isinstance(value, dict))
    found.progress = read(PROGRESS_FILE, _is_progress) or {}
    found.finished = read(FINISHED_FILE, lambda value: isinstance(value, dict) and is_summary(value))
    found.starts = read(STARTS_FILE, _are_starts) or []
    found.attempt = (read(ATTEMPT_FILE, _is_attempt) or {}).get("attempt")
    found.records = _read_records(files, found)
    return found


def _read_records(files: StatusFiles, found: StateFiles) -> list[Record]:
    """The records at the end of a history. A last line that is cut off, as by a kill, is no damage."""
    tail = files.content(HISTORY_FILE, TAIL_BYTES) or b""
    lines = tail.splitlines()[1 if len(tail) >= TAIL_BYTES else 0 :]
    values = [_parse(line) for line in lines]
    if not all(map(is_record, values[:-1])):
        found.damaged.append(HISTORY_FILE)
    return [value for value in values if is_record(value)]


def _parse(text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _is_progress(value: Any) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("stage", ""), str):
        return False
    needed = ("epochs", "steps") if "epoch" in value else ()
    return all(isinstance(value.get(name, 0), int | float) for name in _PROGRESS_NUMBERS) and all(
        name in value for name in needed
    )


def _are_starts(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(start, dict) and isinstance(start.get("ended") or {}, dict) for start in value
    )


def _is_attempt(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("attempt", 0), int)
