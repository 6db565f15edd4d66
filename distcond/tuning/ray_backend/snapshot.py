"""Keeps a complete copy of the state files of a Ray Tune experiment.

Tune writes them in place about once a second, so a kill can leave one empty or cut off. Then `Tuner.restore` fails or
begins anew. In object stores files appear complete, so an experiment at a URI needs no copy.
"""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from pathlib import Path

from distcond.atomic_io import read_json, write_json

#: The last byte of every pickle.
_END_OF_PICKLE = b"."

_BASE64 = "base64:"

#: The state of the trials, which is JSON.
_TRIALS = "experiment_state-"

#: Written by every start, before it resumes.
_NOT_STATE = ("tuner.pkl",)


def read_state(experiment: Path) -> dict[str, str] | None:
    """The state files by name; None if one is damaged, or if there are none. Nothing is unpickled."""
    files = {}
    try:
        for file in sorted([*experiment.glob("*.json"), *experiment.glob("*.pkl")]):
            if file.name in _NOT_STATE or file.name.startswith((".", "tmp-")):
                continue
            content = file.read_bytes()
            if file.name.startswith(_TRIALS):
                json.loads(content)
                files[file.name] = content.decode()
            elif content.endswith(_END_OF_PICKLE):  # those of searchers are pickles, also the ones called .json
                files[file.name] = _BASE64 + base64.b64encode(content).decode()
            else:
                return None
    except (OSError, ValueError):
        return None
    return files if any(name.startswith(_TRIALS) for name in files) else None


def repair_state(experiment: Path, copy: Path) -> bool:
    """Replace damaged state files by those of the copy. Returns whether there is a state to resume from."""
    if read_state(experiment) is not None:
        return True
    kept = None
    with suppress(OSError):
        kept = read_json(copy) if copy.exists() else None
    for file in [*experiment.glob("*.json"), *experiment.glob("*.pkl")]:
        if file.name not in _NOT_STATE:
            file.unlink(missing_ok=True)
    for name, text in (kept or {}).items():
        content = base64.b64decode(text.removeprefix(_BASE64)) if text.startswith(_BASE64) else text.encode()
        (experiment / name).write_bytes(content)
    return kept is not None


class StateKeeper:
    """Copies the state files whenever they have changed and are complete.

    Args:
        experiment: the experiment directory.
        copy: the file to write.
    """

    def __init__(self, experiment: Path, copy: Path) -> None:
        self.experiment, self.copy = experiment, copy
        self._seen: tuple[tuple[str, int, int], ...] = ()

    def keep(self) -> None:
        """Copy, if there is something new."""
        with suppress(OSError):
            files = sorted([*self.experiment.glob("*.json"), *self.experiment.glob("*.pkl")])
            signs = tuple((file.name, file.stat().st_mtime_ns, file.stat().st_size) for file in files)
            if signs == self._seen:
                return
            state = read_state(self.experiment)
            if state is not None:
                write_json(self.copy, state)
                self._seen = signs
