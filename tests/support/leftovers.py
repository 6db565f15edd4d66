"""What runs on this machine: processes by a variable they were started with, and where they listen."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def processes_with(variable: str) -> dict[int, str]:
    """Command names by process id of all processes whose environment holds `NAME=VALUE`."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and variable.encode() in (entry / "environ").read_bytes().split(b"\0"):
                found[int(entry.name)] = (entry / "comm").read_text().strip()
        except OSError:
            continue
    return found


def listening(processes: list[int]) -> set[str]:
    """The addresses, as /proc writes them, at which these processes accept TCP connections."""
    sockets = {}
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A":
                sockets[f"socket:[{words[9]}]"] = words[1].split(":")[0]
    found = set()
    for process in processes:
        found |= {sockets[target] for target in _open_at(process) if target in sockets}
    return found


def _open_at(process: int) -> set[str]:
    """What a process has open; nothing of one that is gone."""
    found = set()
    with suppress(OSError):
        for handle in Path(f"/proc/{process}/fd").iterdir():
            with suppress(OSError):
                found.add(str(handle.readlink()))
    return found
