"""The files of a Ray Tune experiment, without Ray: the parts of them that a report reads."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


class StoredExperiment:
    """An experiment in `path`; `store` writes its state.

    Attributes:
        states: of each trial the two texts that Ray stores.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.states = path, list[tuple[str, str]]()

    def add(
        self, config: Mapping[str, Any], status: str, rows: Sequence[Mapping[str, Any]], error: str = "", **state: Any
    ) -> None:
        """A trial with its results."""
        number = len(self.states)
        folder = self.path / f"t{number}"
        folder.mkdir(parents=True)
        if rows:
            (folder / "result.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
        if error:
            (folder / "error.txt").write_text(error)
        own = {"trial_id": f"t{number}", "config": config, "status": status, "relative_logdir": folder.name}
        own |= {"experiment_tag": f"{number}_x", **state}
        self.states.append((json.dumps(own), json.dumps({"start_time": float(number), "last_result": {}})))

    def store(self, name: str = "experiment_state-2026-01-01_00-00-00.json") -> Path:
        """Write the state of all trials, in an order that says nothing, as Ray does after it resumed."""
        file = self.path / name
        file.write_text(json.dumps({"trial_data": self.states[::-1], "runner_data": {}, "stats": {}}))
        return file
