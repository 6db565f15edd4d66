"""What every test stands on: a fast and quiet Ray, no display, and skips that say why."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from typing import Any

import pytest

# Before anything imports Ray. Its own defaults poll every two seconds and write a token into the home directory.
for name, value in {
    "RAY_AUTH_MODE": "disabled",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "MPLBACKEND": "Agg",
}.items():
    os.environ.setdefault(name, value)

pytest_plugins = (
    "support.ranks",
    "support.ray_cluster",
    "support.digits_runs",
    "support.result_rows",
    "support.second_user",
)

#: Of these files all tests share what a machine has one of; elsewhere those of a file share what is dear to make.
TOGETHER = ("tests/cluster/slurm/test_real",)
#: In these folders tests share little and wait for long.
APART = ("tests/faults",)
#: What takes longest, the longest first: begun last, it would keep one process busy where the others have nothing left.
FIRST = (
    "tests/docker/test_image", "tests/cluster/slurm/test_real", "tests/launch/test_confirmed", "tests/launch/test_asha",
    "tests/launch/test_population", "tests/launch/", "tests/evaluation/", "tests/faults/", "tests/gradient_masking/",
    "tests/models/test_every",
)  # fmt: skip


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Where several processes share the tests: each takes whole files, or folders, or single tests."""
    from xdist.scheduler import LoadFileScheduling

    class Shares(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            if nodeid.startswith(APART):
                return nodeid
            return next((one for one in TOGETHER if nodeid.startswith(one)), super()._split_scope(nodeid))

    return Shares(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, and skip what this machine cannot run."""
    items.sort(key=lambda item: next((rank for rank, at in enumerate(FIRST) if item.nodeid.startswith(at)), len(FIRST)))
    reasons = {"gpu": _why_no_gpu(items), "ray": "" if importlib.util.find_spec("ray") else "Ray is not installed"}
    for item in items:
        for marker, reason in reasons.items():
            if reason and item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


def _why_no_gpu(items: list[pytest.Item]) -> str:
    if not any(item.get_closest_marker("gpu") for item in items):
        return ""
    import torch

    return "" if torch.cuda.is_available() else "no CUDA device"


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Networks here are tiny, and runners have few cores."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny() -> Callable[..., Any]:
    """`tiny(method, model, **settings)`: a config on the digits whose network has a few channels."""
    from distcond.config.overrides import resolve
    from distcond.registry import lookup

    def config(method: str = "float", model: str = "small_cnn", **settings: Any) -> Any:
        options = lookup("model", model).options
        sizes = {"depths": "1,2", "widths": "4,8", "stem_width": "4"}
        small = {f"model.{name}": value for name, value in sizes.items() if hasattr(options, name)}
        small["eval.lam_grid"] = "0,0.4,1"  # points at which every method has an answer
        dotted = {name.replace("__", "."): value for name, value in settings.items()}
        return resolve("float_digits", {"method": method, "model": model, **small, **dotted})

    return config
