"""Settings as dataclass fields with a help line and bounds, and how their values are parsed and checked."""

from __future__ import annotations

import operator
import types
import typing
from collections.abc import Callable
from dataclasses import field
from fractions import Fraction
from typing import Any, Literal, Union, get_args, get_origin

from distcond.errors import ConfigError
from distcond.registry import describe_unknown

_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


def setting(
    default: Any,
    help: str,
    *,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    lt: float | None = None,
) -> Any:
    """A config field: default, one line of help, and closed (`ge`, `le`) or open (`gt`, `lt`) bounds of its numbers."""
    return field(default=default, metadata={"help": help, "ge": ge, "gt": gt, "le": le, "lt": lt})


def group(default: Any, help: str) -> Any:
    """A config field that is itself a config."""
    return field(default=default, metadata={"help": help})


def check_bounds(path: str, value: Any, metadata: typing.Mapping[str, Any]) -> None:
    """Check a value against the bounds in a field's metadata.

    Raises:
        ConfigError: a number is out of bounds, or a tuple of bounded numbers is empty.
    """
    if value == () and any(metadata.get(bound) is not None for bound in ("ge", "gt", "le", "lt")):
        raise ConfigError(f"{path}: empty; give at least one number")
    for number in value if isinstance(value, tuple) else (value,):
        if isinstance(number, bool) or not isinstance(number, int | float):
            continue
        for bound, holds, phrase in (
            ("ge", operator.ge, "at least"),
            ("gt", operator.gt, "more than"),
            ("le", operator.le, "at most"),
            ("lt", operator.lt, "less than"),
        ):
            limit = metadata.get(bound)
            if limit is not None and not holds(number, limit):
                raise ConfigError(f"{path}={number:g}: must be {phrase} {limit:g}")


def parse_value(path: str, value: Any, annotation: Any) -> Any:
    """Parse `value`, a string from a command line or a plain value from TOML, JSON or Tune, as the annotated type.

    Numbers may be fractions ("8/255"), tuples are comma-separated ("0,0.2,1"), None is "none".

    Raises:
        ConfigError: the value has another form; the message names the setting, the value and the valid form.
    """
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        return _parse_optional(path, value, annotation)
    if origin is Literal:
        choices = [str(c) for c in get_args(annotation)]
        if str(value) not in choices:
            raise ConfigError(describe_unknown(f"value for {path}", str(value), choices))
        return get_args(annotation)[choices.index(str(value))]
    if origin is tuple:
        return _parse_tuple(path, value, get_args(annotation)[0])
    return _parse_scalar(path, value, annotation)


def _parse_optional(path: str, value: Any, annotation: Any) -> Any:
    if value is None or (isinstance(value, str) and value.lower() == "none"):
        return None
    inner = [a for a in get_args(annotation) if a is not type(None)]
    return parse_value(path, value, inner[0])


def _parse_tuple(path: str, value: Any, inner: Any) -> tuple[Any, ...]:
    items = value.strip("()[] ").split(",") if isinstance(value, str) else value
    if not isinstance(items, list | tuple):
        items = [items]
    return tuple(
        parse_value(path, item.strip() if isinstance(item, str) else item, inner) for item in items if item != ""
    )


def _parse_scalar(path: str, value: Any, annotation: type) -> Any:
    readers: dict[type, tuple[Callable[[Any], Any], str]] = {
        bool: (_parse_bool, "true or false"),
        int: (_parse_int, "a whole number"),
        float: (_parse_float, "a number such as 0.1, 1e-3 or 8/255"),
        str: (_parse_str, "text"),
    }
    reader, form = readers[annotation]
    try:
        return reader(value)
    except (ValueError, TypeError, ZeroDivisionError, OverflowError) as error:
        raise ConfigError(f"{path}={value}: expected {form}") from error


def _parse_bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).lower()
    if text not in _TRUE + _FALSE:
        raise ValueError(value)
    return text in _TRUE


def _parse_int(value: Any) -> int:
    if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
        raise ValueError(value)
    return int(value)


def _parse_float(value: Any) -> float:
    if isinstance(value, bool):
        raise ValueError(value)
    number = float(Fraction(value.replace(" ", ""))) if isinstance(value, str) and "/" in value else float(value)
    if number != number or number in (float("inf"), float("-inf")):
        raise ValueError(value)
    return number


def _parse_str(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def check_choice(path: str, value: str, choices: tuple[str, ...]) -> str:
    """Return `value` if it is one of `choices`.

    Raises:
        ConfigError: it is not; the message lists the choices.
    """
    if value not in choices:
        raise ConfigError(describe_unknown(f"value for {path}", value, choices))
    return value
