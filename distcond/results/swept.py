"""Runs over which one setting was swept.

Runs that differ in one number of their method and nothing else (TRADES over `method.beta`, PGD-AT over `sampler.lam`)
are one point each. Reports draw them as one line, to compare them with a conditional network.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from distcond.config.run_id import identity_settings
from distcond.run_layout import CONFIG_FILE, INIT_FROM_FILE

#: Paths whose content affects the result of a run.
CONTENT_PATHS = ("init_from", "data.root", "data.extra")


class SweptSetting(NamedTuple):
    """The swept setting, its value in one run, and a digest that the runs of one sweep share."""

    setting: str
    value: float
    group: str

    def __str__(self) -> str:
        return f"{self.setting} {self.value:g}"


def swept_settings_of(run_dirs: Mapping[str, Path]) -> dict[str, SweptSetting]:
    """The swept setting of each run, by run_id. Runs that belong to no sweep are left out."""
    settings = {run_id: _read_settings(run_dir) for run_id, run_dir in run_dirs.items()}
    return swept_settings({run_id: of_run for run_id, of_run in settings.items() if of_run})


def swept_settings(settings: Mapping[str, Mapping[str, Any]]) -> dict[str, SweptSetting]:
    """Like `swept_settings_of`, for the settings of each run.

    A run that belongs to two sweeps is assigned to the longer one.
    """
    groups: dict[str, dict[str, SweptSetting]] = {}
    for run_id, of_run in settings.items():
        own = identity_settings(of_run) | {name: of_run[name] for name in CONTENT_PATHS if name in of_run}
        for path in filter(_may_be_swept, of_run):
            value = of_run[path]
            if isinstance(value, int | float) and not isinstance(value, bool):
                group = _digest_others(path, own)
                groups.setdefault(group, {})[run_id] = SweptSetting(path, float(value), group)
    sweeps = [runs for runs in groups.values() if len({one.value for one in runs.values()}) == len(runs) > 1]
    by_run: dict[str, SweptSetting] = {}
    for runs in sorted(sweeps, key=len):
        by_run |= runs
    return by_run


def _may_be_swept(path: str) -> bool:
    return path.startswith("method.") or path == "sampler.lam"


def _digest_others(path: str, settings: Mapping[str, Any]) -> str:
    """A digest of settings without `path`."""
    others = {name: value for name, value in settings.items() if name != path}
    return hashlib.blake2b(json.dumps([path, others], sort_keys=True).encode(), digest_size=8).hexdigest()


def _read_settings(run_dir: Path) -> dict[str, Any]:
    """The settings in `config.json`; empty if it is missing or damaged, since rows can be reported without it."""
    try:
        settings = json.loads((run_dir / CONFIG_FILE).read_text(encoding="utf-8"))["settings"]
    except (OSError, ValueError, TypeError, KeyError):
        return {}
    return {**settings, **_init_from_digest(run_dir, settings)} if isinstance(settings, dict) else {}


def _init_from_digest(run_dir: Path, settings: Mapping[str, Any]) -> dict[str, str]:
    """`init_from` and `method.code_file` as digests, if the run recorded them: copies of one file count as equal."""
    found = dict[str, str]()
    for path, entry in (("init_from", "digest"), ("method.code_file", "codes")):
        with suppress(OSError, ValueError, TypeError, KeyError):
            if settings.get(path):
                found[path] = str(json.loads((run_dir / INIT_FROM_FILE).read_text(encoding="utf-8"))[entry])
    return found
