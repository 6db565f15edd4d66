"""What stands in the files that images are made of and started from, against what it repeats."""

from __future__ import annotations

import difflib
import re
from pathlib import Path

import pytest

from distcond import __version__

ROOT = Path(__file__).parents[2]
DOCKERFILES = [ROOT / "docker" / name for name in ("Dockerfile", "Dockerfile.cuda")]


def instructions(file: Path) -> list[str]:
    """The file's lines without comments."""
    return [line for line in file.read_text().splitlines() if line and not line.startswith("#")]


def test_the_cuda_image_differs_where_it_has_to() -> None:
    lines = difflib.ndiff(*map(instructions, DOCKERFILES))
    changed = [line[2:].strip() for line in lines if line[0] in "+-"]
    assert len(changed) == 7
    assert all(re.search("packages.sh|torch.version.cuda|DISTCOND_GIT_COMMIT|NVIDIA_", line) for line in changed), (
        changed
    )


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.name)
def test_builders_of_every_age_take_it(file: Path) -> None:
    text = "\n".join(instructions(file))
    for refused in ("<<", "--link", "--mount", "HEALTHCHECK", "SHELL"):
        assert refused not in text
    assert text.index("ARG BASE_IMAGE=") < text.index("FROM ")
    assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", text, re.MULTILINE)
    assert re.search(r'^CMD \["/', text, re.MULTILINE)  # Apptainer does not go to WORKDIR


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.name)
def test_torch_is_the_one_that_is_tested(file: Path) -> None:
    (torch,) = re.findall(r"^ARG TORCH=(.*)$", file.read_text(), re.MULTILINE)
    assert torch in (ROOT / "constraints.txt").read_text().splitlines()


def test_names_of_the_image_are_one() -> None:
    for name in ("cluster/compose.yaml", "docs/containers.md", "docker/Dockerfile.cuda", "docker/Dockerfile"):
        tags = set(re.findall(r"\bdistcond:([\w.]+)", (ROOT / name).read_text()))
        assert tags == {__version__}, name
