"""The outcomes of a campaign as Markdown."""

from __future__ import annotations

import platform
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch

from distcond.runs.provenance import git_commit, hardware

HEAD = """# Faults

What was done to a small run while it was going on, and what became of it. Command:

    {command}

Commit {commit}, {date}, {hardware}, Python {python}, torch {torch}. {turns} faults at random moments of a run of two
workers; {good} ended with the final weights, rows and epochs of the run that nothing happened to, bit for bit.
"goes on by itself": the launcher restarted the workers from the last checkpoint. "given again": the command ended with
another status than 0, within its bound, and was given again (after mending the disk, where that was the fault).
"left running" counts what is still there a minute and a half after the end of a run that had a Ray of its own, or that
was finished; not what a cluster of others keeps.

| fault | launcher | faults | goes on by itself | given again | statuses | right weights | rows once | left running |
|---|---|---|---|---|---|---|---|---|
"""

LIST = """
Each fault: how long after which of 30 steps (0: the start of the workers), and what the run said by then that it was
doing, up to a second late.

| # | fault | launcher | loader | step | seconds after | doing | statuses | attempts | right |
|---|---|---|---|---|---|---|---|---|---|
"""

WORDS = """
Last lines of the starts that ended with another status than 0 (DIR is the directory of the run):

| fault | launcher | starts | last line |
|---|---|---|---|
"""

_PLACE = re.compile(r"/tmp/dcf-[^ ]*?/run\b")


def table(outcomes: Sequence[dict[str, Any]], command: str, date: str) -> str:
    """The whole file."""
    head = HEAD.format(
        command=command, commit=git_commit(), date=date, hardware=hardware(torch.device("cpu")), turns=len(outcomes),
        python=platform.python_version(), torch=torch.__version__, good=sum(o["ok"] for o in outcomes),
    )  # fmt: skip
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for outcome in outcomes:
        groups.setdefault((outcome["kind"], outcome["launcher"]), []).append(outcome)
    lines = [_line(*names, group) for names, group in groups.items()]
    return head + "\n".join(lines) + "\n" + LIST + "\n".join(map(_single, outcomes)) + "\n" + _last_words(groups)


def _line(kind: str, launcher: str, group: list[dict[str, Any]]) -> str:
    once = sum(not {"rows doubled", "rows lost or changed", "history", "not finished"} & set(o["wrong"]) for o in group)
    right = sum(not {"weights", "not finished"} & set(o["wrong"]) for o in group)
    cells = [
        kind, launcher, len(group), sum(len(o["statuses"]) == 1 for o in group),
        sum(len(o["statuses"]) > 1 for o in group), _statuses(group), right, once, sum(bool(o["left"]) for o in group),
    ]  # fmt: skip
    return f"| {' | '.join(map(str, cells))} |"


def _statuses(group: list[dict[str, Any]]) -> str:
    return ", ".join(map(str, sorted({status for o in group for status in o["statuses"]})))


def _single(o: dict[str, Any]) -> str:
    statuses, right = ", ".join(map(str, o["statuses"])), "yes" if o["ok"] else ", ".join(o["wrong"] + o["left"])
    cells = [
        o["turn"],
        o["kind"],
        o["launcher"],
        o["loader"],
        o["step"],
        o["delay"],
        o["at"],
        statuses,
        o["attempts"],
        right,
    ]
    return f"| {' | '.join(map(str, cells))} |"


def _last_words(groups: dict[tuple[str, str], list[dict[str, Any]]]) -> str:
    """What starts that ended otherwise said last; under torchrun any of the workers may be the one that does."""
    lines = []
    for (kind, launcher), group in groups.items():
        said = Counter(_PLACE.sub("DIR", line) or "nothing" for outcome in group for line in outcome["said"])
        lines += [f"| {kind} | {launcher} | {number} | {line[:240]} |" for line, number in said.items()]
    return WORDS + "\n".join(lines) + "\n" if lines else ""
