"""A small Debian or Ubuntu from this machine's own sources: told apart are a mirror that is not there and a fault."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from support.processes import LIMIT, run

PACKAGES = "python3,python3-venv,python3-dev,ca-certificates"
QUIET = ("path-exclude=/usr/share/doc/*", "path-exclude=/usr/share/man/*", "path-exclude=/usr/share/locale/*")
#: Debian's Python where the Python image has it, and the user that Ubuntu has.
HOOKS = (
    '--customize-hook=chroot "$1" python3 -m venv /usr/local',
    '--customize-hook=chroot "$1" useradd --uid 1000 --user-group --create-home ubuntu',
)
#: apt's words for a host that is not there or does not answer; what a host answers is none of these.
UNREACHABLE = re.compile(
    r"^E: (Failed to fetch .*(?:Could not (?:resolve|connect)|Temporary failure resolving|Unable to connect"
    r"|Cannot initiate the connection|connection timed out|Connection timed out|Connection failed"
    r"|Network is unreachable).*)$",
    re.MULTILINE,
)


def unreachable_mirror(sources: Path) -> str:
    """Why no mirror of this file answers, in apt's words; "" where one does, whatever it answers.

    Args:
        sources: a file of apt's, `.list` or `.sources`.
    """
    with tempfile.TemporaryDirectory() as lists:
        options = {
            "Dir::Etc::SourceList": str(sources),
            "Dir::Etc::SourceParts": "/dev/null",
            "Dir::State::Lists": lists,
            "Acquire::Retries": "0",
            "Acquire::Languages": "none",
            "Acquire::IndexTargets::deb::Packages::DefaultEnabled": "false",  # what is signed will do
            "APT::Update::Error-Mode": "any",
        }
        asked = run(["apt-get", "-qq", *(f"-o{name}={value}" for name, value in options.items()), "update"])
    found = UNREACHABLE.search(asked.output)
    return found[1] if asked.status != 0 and found else ""


def bootstrap(sources: Path, tar: Path, hooks: Sequence[str] = HOOKS) -> None:
    """Write a minimal system with Python as an archive.

    Raises:
        AssertionError: mmdebstrap failed, with all that it printed. Ask `unreachable_mirror` first.
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
