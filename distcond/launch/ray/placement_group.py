"""Record the placement group of a run's workers, and release it when the process that asked for it is gone.

Ray keeps a placement group until the whole job is over, and cleans up only where it has a dashboard. Without this, a
trial that was ended from outside would leave the others fewer cores, and at last none.
Imports nothing of `ray.train` but its callback: Tune's processes import it before Ray Train's variables are set.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from ray._raylet import PlacementGroupID
from ray.train.v2._internal.execution.callback import WorkerGroupCallback
from ray.util.placement_group import PlacementGroup, remove_placement_group


class PlacementGroupRecorder(WorkerGroupCallback):
    """Writes down in `file` what the workers hold. Runs in Ray Train's controller."""

    def __init__(self, file: Path) -> None:
        self.file, self.held = file, ""

    def before_worker_group_start(self, worker_group_context: Any) -> None:
        """Start none anew once all was given back: a controller may outlive its trial for a moment."""
        if self.held and _read(self.file) == "":
            raise RuntimeError("the trial is over")

    def after_worker_group_start(self, worker_group: Any) -> None:
        """The workers are there."""
        state = worker_group.get_worker_group_state()
        # Older ones of Ray have no handle in between.
        self.held = getattr(state, "placement_group_handle", state).placement_group.id.hex()
        # Not where the folder has gone: it would be made where a file system was.
        with suppress(OSError):
            self.file.write_text(self.held, encoding="utf-8")


def placement_group_file(run_path: Path) -> Path:
    """Where it is written down; away once the workers have ended by themselves."""
    return run_path / ".ray" / "reserved"


def release_placement_group(run_path: Path) -> None:
    """End the workers of a run whose trial is gone, if it left any, and free what they hold."""
    file = placement_group_file(run_path)
    if held := _read(file):
        with suppress(OSError):
            file.write_text("", encoding="utf-8")  # first: its end is what the controller would start workers anew for
        remove_placement_group(PlacementGroup(PlacementGroupID.from_hex(held)))


def _read(file: Path) -> str | None:
    with suppress(OSError):
        return file.read_text(encoding="utf-8")
    return None
