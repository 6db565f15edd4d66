"""What a check of this room says."""

from __future__ import annotations

from typing import NamedTuple


class Finding(NamedTuple):
    """One check of one network at one operating point.

    Attributes:
        name: the warning, one of the stable names in snake_case.
        warned: whether it holds of this network; `p_value` is below the level then.
        value: the share or count that was looked at, and `threshold`, what an honest network keeps to.
        p_value: how likely so much is by luck, for a network just within the threshold.
        fact: what was seen, for people: "37 % of 64 inputs".
        meaning: why that matters and what to do, one line.
    """

    name: str
    warned: bool
    value: float
    threshold: float
    p_value: float
    fact: str
    meaning: str
