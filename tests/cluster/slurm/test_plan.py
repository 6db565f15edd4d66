"""What would be submitted, as text: compared with files, since these flags are what a site's SLURM sees."""

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


def planned(name: str) -> str:
    """The sbatch text and a run's command, with this machine's paths named."""
    profile = load_profile(name, {})
    text = sbatch_text(profile, "distcond", Path("/shared/sweep/jobs"), 12 if name == "gpu" else 1)
    text += f"\n\n# each task\n{shlex.join(train_command(['float_digits', 'seed=1'], profile))}\n"
    return text.replace(sys.executable, "PYTHON").replace(str(ROOT), "CHECKOUT")


@pytest.mark.parametrize("name", NAMES)
def test_the_text_of_every_shipped_profile(name: str) -> None:
    assert planned(name) == (GOLDEN / f"{name}.sbatch").read_text()


def test_enroot_without_its_plugin(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text('[container]\nform = "enroot"\nimage = "/i.sqsh"\npython = "python3"\nmounts = ["/a:/b"]\n')
    words = train_command(["float_digits"], load_profile(str(file), {}))
    assert words[:7] == ["enroot", "start", "--mount", "/a:/b", "/i.sqsh", "python3", "-u"]
