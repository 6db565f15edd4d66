"""Sweep directories that would not work, refused before anything is submitted."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from cluster.slurm.profile import Profile
from distcond.errors import ConfigError

_OF_ONE_NODE = ("/tmp", "/var/tmp", "/dev/shm", "/run")
_IN_MEMORY = ("tmpfs", "ramfs", "devtmpfs")


def check_shared(places: Iterable[Path], profile: Profile) -> None:
    """
    Raises:
        ConfigError: a directory is one that each node has for itself.
    """
    if profile.executor == "local" or profile.shared_tmp:
        return
    for place in places:
        real = place.resolve()  # past links, to such a directory or in place of one
        found = next((one for one in _OF_ONE_NODE if place.is_relative_to(one) or real.is_relative_to(one)), "")
        kind = file_system(real)
        if found or kind in _IN_MEMORY:
            what = f"in {found}" if found else f"on a {kind}"
            own = "which every node has for itself: jobs would not see it"
            right = "name one on the shared disk (or shared_tmp=true in the profile, if it is shared here)"
            raise ConfigError(f"{place}: {what}, {own}; {right}")


def file_system(place: Path, mounts: Path = Path("/proc/self/mounts")) -> str:
    """The type of the file system that a path, which need not exist yet, is on; "" where it cannot be told."""
    best, kind = "", ""
    try:
        lines = mounts.read_text().splitlines()
    except OSError:
        return ""
    for line in lines:
        _, at, found, *_ = line.split(" ")
        if place.is_relative_to(at) and len(at) >= len(best):
            best, kind = at, found
    return kind
