"""Record the placement group of a run's workers, and release it when the process that requested it is gone.

Ray keeps a placement group until the job ends, and cleans up earlier only with a dashboard. Without this module a trial
that is killed from outside would keep its cores, until none are left for other trials.
Imports nothing of `ray.train` but its callback: Tune's processes import this before Ray Train's variables are set.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from ray._raylet import PlacementGroupID
from ray.train.v2._internal.execution.callback import WorkerGroupCallback
from ray.util.placement_group import PlacementGroup, remove_placement_group

from distcond.run_layout import RAY_DIR


class PlacementGroupRecorder(WorkerGroupCallback):
    """Writes the ID of the workers' placement group to `file`. Runs in Ray Train's controller."""

    def __init__(self, file: Path) -> None:
        self.file, self.group_id = file, ""

    def before_worker_group_start(self, worker_group_context: Any) -> None:
        """Refuse to restart workers once the group was released: a controller may outlive its trial for a moment."""
        if self.group_id and _read(self.file) == "":
            raise RuntimeError("the trial has ended and its placement group was released")

    def after_worker_group_start(self, worker_group: Any) -> None:
        """Record the group of the new workers."""
        state = worker_group.get_worker_group_state()
        # Older versions of Ray have no handle in between.
        self.group_id = getattr(state, "placement_group_handle", state).placement_group.id.hex()
        # Do not create the folder: its file system may be unmounted.
        with suppress(OSError):
            self.file.write_text(self.group_id, encoding="utf-8")


def placement_group_file(run_path: Path) -> Path:
    """The file with the ID. It is deleted when the run ends by itself."""
    return run_path / RAY_DIR / "reserved"


def release_placement_group(run_path: Path) -> None:
    """End the workers of a run whose trial was killed, if there are any, and free their resources."""
    file = placement_group_file(run_path)
    if group_id := _read(file):
        with suppress(OSError):
            # First, since the controller restarts workers as soon as the group is gone.
            file.write_text("", encoding="utf-8")
        remove_placement_group(PlacementGroup(PlacementGroupID.from_hex(group_id)))


def _read(file: Path) -> str | None:
    with suppress(OSError):
        return file.read_text(encoding="utf-8")
    return None
