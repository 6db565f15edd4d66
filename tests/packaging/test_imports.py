from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import pytest

from support.processes import run

LIGHT_PACKAGES = (
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
    """Every module of these packages imports with torch and numpy only, in a fresh interpreter without the others."""
    code = f"""
import importlib, pkgutil, sys
sys.modules.update(dict.fromkeys({sorted(HEAVY)!r}))
for name in {LIGHT_PACKAGES!r}:
    package = importlib.import_module("distcond." + name)
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
"""
    done = run([sys.executable, "-c", code])
    assert done.status == 0, done.output


@pytest.mark.cluster
def test_nothing_needs_torchvision() -> None:
    """The embedded default runs without torchvision, which is not part of a CPU build of torch."""
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


def test_importing_the_package_does_not_import_torch() -> None:
    code = "import distcond, sys; print(distcond.__version__, 'torch' in sys.modules)"
    assert run([sys.executable, "-c", code]).output.split()[1:] == ["False"]
