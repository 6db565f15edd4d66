"""Counts how often the training thread calls Ray, with the interpreter's profiler."""

from __future__ import annotations

import gc
import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Any

#: Calls are counted between these steps, which include a validation and a checkpoint.
FIRST, LAST = 1, 4

_counts = {"all": 0, "ray": 0}
_spec = importlib.util.find_spec("ray")
_RAY = os.path.dirname(_spec.origin or "") + os.sep if _spec else "no Ray"


def watch(step: int, file: Path) -> None:
    """In rank 0, count from step FIRST on. At LAST write the counts and what one deliberate Ray call adds."""
    if os.environ.get("RANK", "0") != "0":
        return
    if step == FIRST:
        gc.collect()
        gc.disable()  # it might run Ray's destructors
        sys.setprofile(_count)
    if step == LAST:
        before = dict(_counts)
        import ray

        ray.get_runtime_context().get_worker_id()
        sys.setprofile(None)
        gc.enable()
        file.write_text(json.dumps(before | {"deliberate": _counts["ray"] - before["ray"]}))


def _count(frame: Any, event: str, argument: Any) -> None:
    if event == "call":
        _counts["all"] += 1
        _counts["ray"] += frame.f_code.co_filename.startswith(_RAY)
    elif event == "c_call":
        _counts["ray"] += str(getattr(argument, "__module__", "")).startswith("ray")
