"""The sbatch text of every shipped profile, compared with files."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from cluster.slurm.process import ROOT, train_command
from cluster.slurm.profile import PROFILES_FOLDER, load_profile
from cluster.slurm.sbatch import sbatch_text

GOLDEN = Path(__file__).with_name("golden")
NAMES = sorted(file.stem for file in PROFILES_FOLDER.glob("*.toml") if file.stem != "local")


def plan_text(name: str) -> str:
    """The sbatch text and a run's command, with placeholders for this machine's paths."""
    profile = load_profile(name, {})
    text = sbatch_text(profile, "distcond", Path("/shared/sweep/jobs"), 12 if name == "gpu" else 1)
    text += f"\n\n# each task\n{shlex.join(train_command(['float_digits', 'seed=1'], profile))}\n"
    return text.replace(sys.executable, "PYTHON").replace(str(ROOT), "CHECKOUT")


@pytest.mark.parametrize("name", NAMES)
def test_sbatch_text_of_shipped_profiles(name: str) -> None:
    assert plan_text(name) == (GOLDEN / f"{name}.sbatch").read_text()


def test_enroot_without_slurm_plugin(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text('[container]\nform = "enroot"\nimage = "/i.sqsh"\npython = "python3"\nmounts = ["/a:/b"]\n')
    command = train_command(["float_digits"], load_profile(str(file), {}))
    assert command[:7] == ["enroot", "start", "--mount", "/a:/b", "/i.sqsh", "python3", "-u"]
