"""Finds methods, models, data sets, samplers, recipes and more by name. A new one is one new file in its package.

The modules of such a package define values of one type, each with a `name` and a one-line `summary`, alone or in
tuples. They are found by importing every module of the package, so nothing has to be registered. A name with a colon
(`my_package.my_module:METHOD`) is imported: private code needs no fork.
"""

from __future__ import annotations

import difflib
import pkgutil
from collections.abc import Iterable, Sequence
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

from distcond.errors import ConfigError

#: kind -> module and class of its values. The package of the module is searched, or the one in PACKAGES.
KINDS = {
    "recipe": ("distcond.recipes.recipe", "Recipe"),
    "method": ("distcond.methods.method", "Method"),
    "model": ("distcond.models.model", "Model"),
    "data": ("distcond.data.dataset", "Dataset"),
    "sampler": ("distcond.samplers.sampler", "Sampler"),
    "convention": ("distcond.init_from.formats", "KeyMapping"),
    "attack": ("distcond.attacks.attack", "Attack"),
    "sink": ("distcond.trackers.base", "Tracker"),
}
PACKAGES = {"data": "distcond.data.datasets"}


#: With more names than this, an error lists only the nearest.
_MAX_LISTED = 30


@cache
def table(kind: str) -> dict[str, Any]:
    """Every value of one kind (of `KINDS`) by name, sorted."""
    value_type = _value_type(kind)
    package = import_module(PACKAGES.get(kind) or value_type.__module__.rpartition(".")[0])
    by_name: dict[str, Any] = {}
    for module_info in pkgutil.iter_modules(package.__path__):
        module = import_module(f"{package.__name__}.{module_info.name}")
        for value in _values(module, value_type):
            assert by_name.setdefault(value.name, value) is value, f"two values named {value.name}"
    return dict(sorted(by_name.items()))


def lookup(kind: str, name: str) -> Any:
    """The value named `name`, or the object at `package.module:ATTRIBUTE`.

    Raises:
        ConfigError: no such name; the message lists the valid ones, nearest first.
    """
    if ":" in name:
        return _import_value(kind, name)
    values = table(kind)
    if name not in values:
        describe = _describe_unknown_of_many if len(values) > _MAX_LISTED else describe_unknown
        raise ConfigError(f"{describe(kind, name, values)}; or your own as package.module:{kind.upper()}")
    return values[name]


def describe_unknown(what: str, name: str, choices: Iterable[str], likely: Sequence[str] = ()) -> str:
    """One line for an unknown name: the `likely` choices or else the nearest one, then all valid ones."""
    valid = list(choices)
    near = likely or difflib.get_close_matches(name, valid, n=1)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return f"unknown {what} {name!r}: {hint}valid: {', '.join(valid)}"


def _describe_unknown_of_many(kind: str, name: str, choices: Iterable[str]) -> str:
    """`describe_unknown` for too many choices to list."""
    near = difflib.get_close_matches(name, list(choices), n=5, cutoff=0)
    return f"unknown {kind} {name!r}: nearest are {', '.join(near)}; all: python -m distcond.train --list {kind}"


def _values(module: ModuleType, value_type: type) -> list[Any]:
    """The values of one type that a module defines, alone or in a tuple."""
    groups = [value if type(value) is tuple else (value,) for value in vars(module).values()]
    return [value for group in groups for value in group if isinstance(value, value_type)]


def _value_type(kind: str) -> type:
    module, class_name = KINDS[kind]
    value_type: type = getattr(import_module(module), class_name)
    return value_type


def _import_value(kind: str, name: str) -> Any:
    module_name, _, attribute = name.partition(":")
    try:
        value = getattr(import_module(module_name), attribute)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise ConfigError(f"{kind}={name}: {error}") from error
    if not isinstance(value, _value_type(kind)):
        raise ConfigError(f"{kind}={name} is a {type(value).__name__}, not a {KINDS[kind][1]}")
    return value
