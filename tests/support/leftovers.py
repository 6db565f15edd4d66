"""Finds processes by an environment variable, and the addresses at which they listen."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def processes_with(variable: str) -> dict[int, str]:
    """The command name of every process whose environment contains `NAME=VALUE`, by process ID."""
    names = {}
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and variable.encode() in (entry / "environ").read_bytes().split(b"\0"):
                names[int(entry.name)] = (entry / "comm").read_text().strip()
        except OSError:
            continue
    return names


def listening(processes: list[int]) -> set[str]:
    """The addresses, as written in /proc, at which these processes accept TCP connections."""
    sockets = {}
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":  # LISTEN
                sockets[f"socket:[{fields[9]}]"] = fields[1].split(":")[0]
    return {sockets[file] for process in processes for file in _open_files(process) if file in sockets}


def _open_files(process: int) -> set[str]:
    """The open files of a process; empty if it has ended."""
    files = set()
    with suppress(OSError):
        for handle in Path(f"/proc/{process}/fd").iterdir():
            with suppress(OSError):
                files.add(str(handle.readlink()))
    return files
