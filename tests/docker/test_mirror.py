"""Images are left out where no mirror answers, and for no other reason that making their base may fail for."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from support.debian import bootstrap, unreachable_mirror

needs_apt = pytest.mark.skipif(not shutil.which("apt-get"), reason="no apt-get here")
needs_mmdebstrap = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("mmdebstrap"), reason="mmdebstrap as root makes the base of images"
)


def sources(tmp_path: Path, uri: str) -> Path:
    file = tmp_path / "test.list"
    file.write_text(f"deb [trusted=yes] {uri} stable main\n")
    return file


@needs_apt
@pytest.mark.parametrize("host", ["127.0.0.1:1", "nowhere.invalid"])
def test_unreachable_mirror_is_named(tmp_path: Path, host: str) -> None:
    assert host in unreachable_mirror(sources(tmp_path, f"http://{host}/debian"))


@needs_apt
def test_mirror_that_answers_is_reachable(tmp_path: Path) -> None:
    assert unreachable_mirror(sources(tmp_path, f"file:{tmp_path}")) == ""  # it has nothing: that is no absence


@needs_mmdebstrap
def test_failing_hook_fails_the_bootstrap(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="command failed: exit 7"):
        bootstrap(sources(tmp_path, f"file:{tmp_path}"), tmp_path / "base.tar", ["--setup-hook=exit 7"])
