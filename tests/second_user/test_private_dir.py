"""Private directories against a second user, and the paths that he could change."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from distcond.errors import ConfigError
from distcond.private_dir import make_private_dir, temporary_private_dir, why_open, why_readable
from support import second_user


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def put_link_to_home(place: Path, home: Path) -> None:
    place.symlink_to(home)


def put_directory(place: Path, home: Path) -> None:
    place.mkdir(mode=0o777)


def put_dangling_link(place: Path, home: Path) -> None:
    place.symlink_to(home / "missing")


def put_file(place: Path, home: Path) -> None:
    place.touch()


@pytest.mark.parametrize("trap", [put_link_to_home, put_directory, put_dangling_link, put_file])
def test_what_another_user_put_there_is_refused(
    trap: Callable[[Path, Path], None], shared_path: Path, open_path: Path
) -> None:
    place = shared_path / "ours"
    assert second_user.do(lambda: trap(place, open_path)) == ""
    with pytest.raises(ConfigError, match=str(place)):
        make_private_dir(place)
    assert mode(open_path) == 0o755 and list(open_path.iterdir()) == []


def test_private_directory_keeps_others_out(shared_path: Path) -> None:
    (shared_path / "own").mkdir(mode=0o755)  # of an earlier version
    for place in (shared_path / "own", shared_path / "new"):
        (make_private_dir(place) / "token").touch(mode=0o666)
        assert mode(place) == 0o700
        assert second_user.do(lambda place=place: (place / "token").read_text()) == "PermissionError"
        assert second_user.do(lambda place=place: os.rename(place, f"{place}-taken")) == "PermissionError"


def test_replaceable_parent_is_refused(shared_path: Path) -> None:
    shared_path.chmod(0o777)  # not sticky: others may rename what is in it
    with pytest.raises(ConfigError, match="writable by every user"):
        make_private_dir(shared_path / "ours")


def test_temporary_directory_avoids_replaceable_parents(
    shared_path: Path, open_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(shared_path))
    with temporary_private_dir() as folder:
        assert (folder.parent, mode(folder)) == (shared_path, 0o700)
    shared_path.chmod(0o777)
    with temporary_private_dir(parents=[str(shared_path), str(open_path)]) as folder:
        assert folder.parent == open_path
    assert not folder.exists()


def test_files_of_others_are_not_removed_as_abandoned(shared_path: Path) -> None:
    kept = shared_path / "kept"
    kept.mkdir()
    (kept / "owner").touch()
    second_user.do(lambda: (shared_path / "distcond-link").symlink_to(kept))
    second_user.do((shared_path / "distcond-theirs").mkdir)
    second_user.do((shared_path / "distcond-theirs" / "owner").touch)
    with temporary_private_dir(parents=[str(shared_path)]):
        pass
    assert (kept / "owner").exists() and (shared_path / "distcond-theirs" / "owner").exists()


@pytest.mark.parametrize(
    ("changed", "mode", "open_to"),
    [
        ("a", 0o755, ""), ("a", 0o777, "every user"), ("a", 0o1777, ""), ("a", 0o775, "group"),
        ("a/b", 0o700, ""), ("a/b", 0o1777, "every user"), ("a/b", 0o770, "group"),
    ],
)  # fmt: skip
def test_writable_directories_on_the_way_are_found(open_path: Path, changed: str, mode: int, open_to: str) -> None:
    (open_path / "a" / "b").mkdir(parents=True)
    os.chown(open_path / changed, 0, second_user.NUMBER)
    (open_path / changed).chmod(mode)
    assert open_to in why_open(open_path / "a" / "b") and bool(open_to) == bool(why_open(open_path / "a" / "b"))
    assert bool(why_open(open_path / "a" / "b", trust_group=True)) == (open_to == "every user")


def test_directories_behind_links_are_found(open_path: Path, shared_path: Path) -> None:
    (open_path / "target").mkdir()
    (open_path / "link").symlink_to(open_path / "target")
    assert why_open(open_path / "link") == ""
    second_user.do(lambda: (shared_path / "link").symlink_to(open_path / "target"))
    assert "belongs to user" in why_open(shared_path / "link")
    (open_path / "target").chmod(0o777)
    assert "writable by every user" in why_open(open_path / "link" / "file")


def test_readable_files_are_found(open_path: Path) -> None:
    (open_path / "token").touch(mode=0o600)
    assert why_readable(open_path / "token") == ""
    (open_path / "token").chmod(0o644)
    assert "0644" in why_readable(open_path / "token")
    open_path.chmod(0o700)
    assert why_readable(open_path / "token") == ""
