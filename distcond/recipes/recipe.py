"""A recipe: settings by dotted path over the defaults, the same form the command line and Tune use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Recipe:
    """A named experiment.

    `summary` is its line in `--list`; `reproduces` names paper, section and what the setting is faithful to;
    `expect` is the published figure or "not published"; `cost` says where and how long it was run, if it was.
    """

    name: str
    summary: str
    reproduces: str
    expect: str
    cost: str
    settings: Mapping[str, Any] = field(default_factory=dict)
