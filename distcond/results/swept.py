"""Runs that one setting of their method was swept over: networks dedicated to one point each, whose curve they are.

TRADES over `method.beta`, PGD-AT over `sampler.lam`: a run of these is one point, and several are what one conditional
network is compared with.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from distcond.config.identity import deciding
from distcond.results.cost import run_dirs_below

#: Settings that say where something lies whose content decides what a run computes.
CONTENT = ("init_from", "data.root", "data.extra")
#: What a run writes about the network it started from.
ORIGIN = "init_from.json"


class Swept(NamedTuple):
    """The setting in which a run differs from others, its value there, and what names these others."""

    setting: str
    value: float
    group: str

    def __str__(self) -> str:
        return f"{self.setting} {self.value:g}"


def swept_below(*roots: Path | str) -> dict[str, Swept]:
    """Of the runs below folders, by run_id, those that differ from another in one number of their method alone."""
    settings = {run_id: _settings(run_dir) for run_id, run_dir in run_dirs_below(*roots).items()}
    return swept({run_id: of_run for run_id, of_run in settings.items() if of_run})


def swept(settings: Mapping[str, Mapping[str, Any]]) -> dict[str, Swept]:
    """As `swept_below`, of the settings of each run. A run that two settings were swept over belongs to the longer."""
    groups: dict[str, dict[str, Swept]] = {}
    for run_id, of_run in settings.items():
        for path in filter(_may_be_swept, of_run):
            value = of_run[path]
            if isinstance(value, int | float) and not isinstance(value, bool):
                group = _digest(path, of_run)
                groups.setdefault(group, {})[run_id] = Swept(path, float(value), group)
    whole = [runs for runs in groups.values() if len({one.value for one in runs.values()}) == len(runs) > 1]
    found: dict[str, Swept] = {}
    for runs in sorted(whole, key=len):
        found |= runs
    return found


def _may_be_swept(path: str) -> bool:
    return path.startswith("method.") or path == "sampler.lam"


def _digest(path: str, settings: Mapping[str, Any]) -> str:
    own = deciding(settings) | {name: settings[name] for name in CONTENT if name in settings}
    others = {name: value for name, value in own.items() if name != path}
    return hashlib.blake2b(json.dumps([path, others], sort_keys=True).encode(), digest_size=8).hexdigest()


def _settings(run_dir: Path) -> dict[str, Any]:
    """What `config.json` holds; nothing where it is not there, or is not what a run writes: rows say enough."""
    try:
        found = json.loads((run_dir / "config.json").read_text(encoding="utf-8"))["settings"]
    except (OSError, ValueError, TypeError, KeyError):
        return {}
    return {**found, **_started_with(run_dir, found)} if isinstance(found, dict) else {}


def _started_with(run_dir: Path, settings: Mapping[str, Any]) -> dict[str, str]:
    """`init_from` by the digest of what lay there, where the run says it: one network may lie in two places."""
    with suppress(OSError, ValueError, TypeError, KeyError):
        if settings.get("init_from"):
            return {"init_from": str(json.loads((run_dir / ORIGIN).read_text(encoding="utf-8"))["digest"])}
    return {}
