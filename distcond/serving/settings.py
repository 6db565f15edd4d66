"""Settings of a service, as `python -m distcond.serve` reads them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_type_hints

from distcond.config.fields import check_bounds, check_choice, parse_value
from distcond.errors import ConfigError
from distcond.registry import describe_unknown
from distcond.runs.load_run import CHECKPOINT_CHOICES


@dataclass(frozen=True, kw_only=True)
class ServeSettings:
    """Where and how to serve; units are those of the command's help."""

    host: str = "127.0.0.1"
    port: int = 8000
    hosts: tuple[str, ...] = ()
    lam: float = 1.0
    width: float = 1.0
    checkpoint: str = "best"
    device: str = "auto"
    max_batch: int = 64
    max_wait: float = 3.0
    max_queue: int = 1024
    examples: int = 16
    launch: str = "local"
    replicas: int = 1


_BOUNDS: dict[str, dict[str, float]] = {
    "port": {"ge": 0, "le": 65535}, "lam": {"gt": 0, "le": 1}, "width": {"gt": 0}, "max_batch": {"ge": 1},
    "max_wait": {"ge": 0}, "max_queue": {"ge": 1}, "examples": {"ge": 0, "le": 64}, "replicas": {"ge": 1},
}  # fmt: skip
_CHOICES = {"checkpoint": CHECKPOINT_CHOICES, "device": ("auto", "cpu", "cuda"), "launch": ("local", "ray")}


def parse_settings(words: Sequence[str]) -> ServeSettings:
    """The settings on a command line.

    Raises:
        ConfigError: an unknown name or a bad value.
    """
    types = get_type_hints(ServeSettings)
    values = dict[str, Any]()
    for word in words:
        name, equals, value = word.partition("=")
        if name not in types or not equals:
            raise ConfigError(describe_unknown("setting of a service", name, types))
        values[name] = parse_value(name, value, types[name])
        check_bounds(name, values[name], _BOUNDS.get(name, {}))
        if name in _CHOICES:
            check_choice(name, values[name], _CHOICES[name])
    return ServeSettings(**values)
