"""The public Python API."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import distcond
from distcond import api
from distcond.config.overrides import resolve
from distcond.config.run_id import run_id
from distcond.data.prepare import prepare_data
from distcond.errors import ConfigError


@pytest.mark.parametrize("name", [name for name in distcond.__all__ if name != "__version__"])
def test_package_exports_the_api(name: str) -> None:
    assert getattr(distcond, name) is getattr(api, name)


def test_unknown_name_raises_attribute_error() -> None:
    for module in (distcond, api):
        with pytest.raises(AttributeError, match="no_such_name"):
            _ = module.no_such_name


def test_identified_run_has_the_training_id(tmp_path: Path) -> None:
    config = resolve("float_digits", {"data.cache_dir": str(tmp_path), "data.loader": "memory"})
    assert api.identify_run(config) == run_id(config, prepare_data(config.data).fingerprint)
    with pytest.raises(ConfigError, match=r"init_from"):
        api.identify_run(resolve("float_digits", {"init_from": str(tmp_path / "none.pt")}))


def test_cluster_commands_import_no_torch() -> None:
    script = "import sys, cluster.slurm.submit, cluster.slurm.gather; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parents[1], capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr
