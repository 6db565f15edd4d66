"""Builds a minimal Debian or Ubuntu from this machine's apt sources, and detects unreachable mirrors."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from support.processes import LIMIT, run

PACKAGES = "python3,python3-venv,python3-dev,ca-certificates"
QUIET = ("path-exclude=/usr/share/doc/*", "path-exclude=/usr/share/man/*", "path-exclude=/usr/share/locale/*")
#: Python where the Python image has it, and the default user of Ubuntu images.
HOOKS = (
    '--customize-hook=chroot "$1" python3 -m venv /usr/local',
    '--customize-hook=chroot "$1" useradd --uid 1000 --user-group --create-home ubuntu',
)
#: apt's messages for a host that does not exist or answer. Errors that a host returns do not match.
UNREACHABLE = re.compile(
    r"^E: (Failed to fetch .*(?:Could not (?:resolve|connect)|Temporary failure resolving|Unable to connect"
    r"|Cannot initiate the connection|connection timed out|Connection timed out|Connection failed"
    r"|Network is unreachable).*)$",
    re.MULTILINE,
)


def unreachable_mirror(sources: Path) -> str:
    """apt's message if no mirror of a sources file answers; "" if one does, whatever it answers.

    Args:
        sources: An apt sources file, `.list` or `.sources`.
    """
    with tempfile.TemporaryDirectory() as lists:
        options = {
            "Dir::Etc::SourceList": str(sources),
            "Dir::Etc::SourceParts": "/dev/null",
            "Dir::State::Lists": lists,
            "Acquire::Retries": "0",
            "Acquire::Languages": "none",
            "Acquire::IndexTargets::deb::Packages::DefaultEnabled": "false",  # signed indices are enough
            "APT::Update::Error-Mode": "any",
        }
        update = run(["apt-get", "-qq", *(f"-o{name}={value}" for name, value in options.items()), "update"])
    message = UNREACHABLE.search(update.output)
    return message[1] if update.status != 0 and message else ""


def bootstrap(sources: Path, tar: Path, hooks: Sequence[str] = HOOKS) -> None:
    """Write a minimal system with Python as a tar archive.

    Raises:
        AssertionError: mmdebstrap failed; with its output. Call `unreachable_mirror` first.
    """
    release = dict(
        line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line
    )  # fmt: skip
    command = [
        *["mmdebstrap", "--quiet", "--variant=minbase", f"--include={PACKAGES}", "--dpkgopt=force-unsafe-io"],
        *[f"--dpkgopt={option}" for option in QUIET],
        *['--aptopt=Dir::Cache::pkgcache ""', '--aptopt=Dir::Cache::srcpkgcache ""'],
        *hooks,
        *[release["VERSION_CODENAME"], str(tar), str(sources)],
    ]
    done = run(command, limit=3 * LIMIT)
    assert done.status == 0, f"mmdebstrap: {done.status}\n{done.output}"
