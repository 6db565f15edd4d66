"""A share of a batch as a number of rows."""

from __future__ import annotations

import math


def num_rows(share: float, n: int) -> int:
    """`share` in [0, 1] of n rows, rounded up."""
    # Rounded first: 0.07 * 100 is 7.000000000000001 in binary, and that would be 8 rows.
    return math.ceil(round(share * n, 6))
