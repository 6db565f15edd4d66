"""The words of a sweep, and which of them go together."""

from __future__ import annotations

from typing import Any

import pytest

from distcond.errors import ConfigError
from distcond.tuning.options import read_options


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"objective": "sa@0,ra@1", "scheduler": "asha"}, "compares by one objective, here are 2"),
        ({"scheduler": "pbt", "search": "grid"}, "valid: search=random"),
        ({"reference": "0"}, "expected SA,RA"),
        ({"quantile": 0.7}, "must be at most 0.5"),
        ({"objective": ""}, "objective= is empty"),
        ({"colour": "red"}, "not an option of a sweep"),
    ],
)
def test_contradicting_options_are_refused(told: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as error:
        read_options(told)
    assert "\n" not in str(error.value)
