"""The outcomes of a fault injection campaign as Markdown."""

from __future__ import annotations

import platform
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch

from distcond.runs.provenance import git_commit, hardware

HEAD = """# Faults

Faults injected into a small run, and the outcomes. Command:

    {command}

Commit {commit}, {date}, {hardware}, Python {python}, torch {torch}. {cases} faults at random moments of a run of two
workers; {good} ended with the final weights, rows and epochs of an undisturbed run, bit for bit.
"resumed by itself": the launcher restarted the workers from the last checkpoint. "repeated": the command ended with a
status other than 0 within its time limit and was given again (after repairing the disk, if that was the fault).
"left running": processes that are still there a minute and a half after the end of a run that had its own Ray, or that
was finished; not those of an external cluster.

| fault | launcher | faults | resumed by itself | repeated | statuses | right weights | rows once | left running |
|---|---|---|---|---|---|---|---|---|
"""

LIST = """
Each fault: seconds after which of 30 steps (0: the start of the workers), and the stage that the run had reported by
then, up to a second late.

| # | fault | launcher | loader | step | seconds after | stage | statuses | attempts | right |
|---|---|---|---|---|---|---|---|---|---|
"""

LAST_LINES = """
Last lines of the starts that ended with a status other than 0 (DIR is the run directory):

| fault | launcher | starts | last line |
|---|---|---|---|
"""

_RUN_DIR = re.compile(r"/tmp/dcf-[^ ]*?/run\b")


def table(outcomes: Sequence[dict[str, Any]], command: str, date: str) -> str:
    """The complete page."""
    head = HEAD.format(
        command=command, commit=git_commit(), date=date, hardware=hardware(torch.device("cpu")), cases=len(outcomes),
        python=platform.python_version(), torch=torch.__version__, good=sum(o["ok"] for o in outcomes),
    )  # fmt: skip
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for outcome in outcomes:
        groups.setdefault((outcome["kind"], outcome["launcher"]), []).append(outcome)
    lines = [_line(*names, group) for names, group in groups.items()]
    return head + "\n".join(lines) + "\n" + LIST + "\n".join(map(_single, outcomes)) + "\n" + _last_lines(groups)


def _line(kind: str, launcher: str, group: list[dict[str, Any]]) -> str:
    once = sum(not {"rows doubled", "rows lost or changed", "history", "not finished"} & set(o["wrong"]) for o in group)
    right = sum(not {"weights", "not finished"} & set(o["wrong"]) for o in group)
    left_running = sum(bool(o["left_running"]) for o in group)
    cells = [
        kind, launcher, len(group), sum(len(o["statuses"]) == 1 for o in group),
        sum(len(o["statuses"]) > 1 for o in group), _statuses(group), right, once, left_running,
    ]  # fmt: skip
    return f"| {' | '.join(map(str, cells))} |"


def _statuses(group: list[dict[str, Any]]) -> str:
    return ", ".join(map(str, sorted({status for o in group for status in o["statuses"]})))


def _single(o: dict[str, Any]) -> str:
    statuses, right = (
        ", ".join(map(str, o["statuses"])),
        "yes" if o["ok"] else ", ".join(o["wrong"] + o["left_running"]),
    )
    cells = [
        o["case"],
        o["kind"],
        o["launcher"],
        o["loader"],
        o["step"],
        o["delay"],
        o["stage"],
        statuses,
        o["attempts"],
        right,
    ]
    return f"| {' | '.join(map(str, cells))} |"


def _last_lines(groups: dict[tuple[str, str], list[dict[str, Any]]]) -> str:
    """The last lines of failed starts; under torchrun any worker may print them."""
    lines = []
    for (kind, launcher), group in groups.items():
        last = Counter(_RUN_DIR.sub("DIR", line) or "nothing" for outcome in group for line in outcome["last_lines"])
        lines += [f"| {kind} | {launcher} | {number} | {line[:240]} |" for line, number in last.items()]
    return LAST_LINES + "\n".join(lines) + "\n" if lines else ""
