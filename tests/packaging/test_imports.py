from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import pytest

from support.processes import run

LIGHT_ROOMS = (
    "layers",
    "models",
    "attacks",
    "samplers",
    "sparsity",
    "methods",
    "training",
    "runs",
    "distributed",
    "init_from",
    "pairs",
    "evaluation",
)
HEAVY = {"ray", "pyarrow", "ffcv", "submitit", "torchvision", "pandas", "matplotlib", "sklearn", "scipy", "PIL", "tqdm"}


def test_training_imports_no_heavy_library() -> None:
    """Every file of these rooms, in a fresh interpreter where they cannot be imported: torch and numpy alone do."""
    code = f"""
import importlib, pkgutil, sys
sys.modules.update(dict.fromkeys({sorted(HEAVY)!r}))
for room in {LIGHT_ROOMS!r}:
    package = importlib.import_module("distcond." + room)
    for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(found.name)
"""
    done = run([sys.executable, "-c", code])
    assert done.status == 0, done.output


@pytest.mark.cluster
def test_nothing_needs_torchvision() -> None:
    """What the embedded default imports, where it cannot be had: a CPU build of torch comes without it."""
    code = """
import importlib, sys
sys.modules["torchvision"] = None
for name in ("train", "launch.ray.trainer", "launch.ray.worker", "data.datasets.digits", "data.ffcv.source",
             "reporting.trade_off_plot"):
    importlib.import_module("distcond." + name)
"""
    done = run([sys.executable, "-c", code])
    assert done.status == 0, done.output
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert not [line for line in project["dependencies"] if line.startswith("torchvision")]


def test_the_package_alone_does_not_even_import_torch() -> None:
    code = "import distcond, sys; print(distcond.__version__, 'torch' in sys.modules)"
    assert run([sys.executable, "-c", code]).output.split()[1:] == ["False"]
