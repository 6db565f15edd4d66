"""FLOAT that allocates more memory than its job has: `method=hungry:METHOD`."""

from __future__ import annotations

import dataclasses
from typing import Any

from distcond.methods.float import METHOD as FLOAT


def objective(options: Any) -> Any:
    held = [bytearray(b"x" * 2**28) for _ in range(12)]
    assert held
    return FLOAT.objective(options)


METHOD = dataclasses.replace(FLOAT, name="hungry", objective=objective)
