from __future__ import annotations

import subprocess
import sys

LIGHT_ROOMS = ("layers", "models", "attacks", "samplers", "sparsity", "methods", "engine")
HEAVY = {"ray", "pyarrow", "ffcv", "submitit", "torchvision", "pandas", "matplotlib", "sklearn", "scipy", "PIL", "tqdm"}


def test_what_trains_a_network_imports_without_the_heavy_libraries() -> None:
    """Every file of these rooms, in a fresh interpreter where they cannot be imported: torch and numpy alone do."""
    code = f"""
import importlib, pkgutil, sys
sys.modules.update(dict.fromkeys({sorted(HEAVY)!r}))
for room in {LIGHT_ROOMS!r}:
    package = importlib.import_module("distcond." + room)
    for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(found.name)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_package_alone_does_not_even_import_torch() -> None:
    code = "import distcond, sys; print(distcond.__version__, 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.split()[1:] == ["False"]
