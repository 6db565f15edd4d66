"""How often the thread that trains calls into Ray, counted by the interpreter itself."""

from __future__ import annotations

import gc
import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Any

#: Counted between these steps of a worker: whole steps, a validation and a checkpoint.
FIRST, LAST = 1, 4

_counts = {"all": 0, "ray": 0}
_found = importlib.util.find_spec("ray")
_RAY = os.path.dirname(_found.origin or "") + os.sep if _found else "no Ray"


def watch(step: int, file: Path) -> None:
    """Of the first worker, count from step FIRST on; at LAST write that, and what one deliberate call to Ray adds."""
    if os.environ.get("RANK", "0") != "0":
        return
    if step == FIRST:
        gc.collect()
        gc.disable()  # or it may run what Ray does when an object goes
        sys.setprofile(_called)
    if step == LAST:
        found = dict(_counts)
        import ray

        ray.get_runtime_context().get_worker_id()
        sys.setprofile(None)
        gc.enable()
        file.write_text(json.dumps(found | {"deliberate": _counts["ray"] - found["ray"]}))


def _called(frame: Any, event: str, argument: Any) -> None:
    if event == "call":
        _counts["all"] += 1
        _counts["ray"] += frame.f_code.co_filename.startswith(_RAY)
    elif event == "c_call":
        _counts["ray"] += str(getattr(argument, "__module__", "")).startswith("ray")
