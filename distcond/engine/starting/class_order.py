"""Whether the logits of a starting point stand for the classes of the run that begins with it."""

from __future__ import annotations

from dataclasses import replace

from distcond.config.schema import Config
from distcond.data.class_names import LEXICOGRAPHIC, NATURAL, both_orders
from distcond.data.described import class_names
from distcond.errors import ConfigError
from distcond.starting_points.wrapping import Weights


def class_note(weights: Weights, config: Config) -> str:
    """What to know about the order of the classes where the classifier is taken over; "" if there is nothing.

    Raises:
        ConfigError: the same classes are numbered in another order there.
    """
    here, there, order = _here(config), weights.classes, config.data.class_order
    other = LEXICOGRAPHIC if order == NATURAL else NATURAL
    if not here or there == here:
        return ""
    if sorted(there) == sorted(here):
        _refuse(there, here, config, other)
    if there:
        return f"its classes are called {_few(there)}, ours {_few(here)}"
    if not both_orders(here if order == NATURAL else _natural(config)):
        return ""
    return (
        f"classes are numbered in {order} order ({_few(here)}); data.class_order={other} if it has them in that order"
    )


def _refuse(there: tuple[str, ...], here: tuple[str, ...], config: Config, other: str) -> None:
    number = next(n for n, (one, two) in enumerate(zip(there, here, strict=True)) if one != two)
    mend = "number the folders as there"
    if there == (tuple(sorted(here)) if other == LEXICOGRAPHIC else _natural(config)):
        mend = f"set data.class_order={other}"
    both = f"class {number} is {there[number]!r} there and {here[number]!r} here"
    raise ConfigError(f"init_from={config.init_from}: its classes are numbered in another order: {both}; {mend}")


def _here(config: Config) -> tuple[str, ...]:
    try:
        return class_names(config.data)
    except ConfigError:
        return ()  # without the images; who trains on them hears of it


def _natural(config: Config) -> tuple[str, ...]:
    return class_names(replace(config.data, class_order=NATURAL))


def _few(names: tuple[str, ...]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
