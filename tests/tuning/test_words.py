"""The words of a sweep, and which of them go together."""

from __future__ import annotations

from typing import Any

import pytest

from distcond.errors import ConfigError
from distcond.tuning.words import words_of


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"objective": "sa@0,ra@1", "scheduler": "asha"}, "compares by one objective, here are 2"),
        ({"scheduler": "pbt", "search": "grid"}, "valid: search=random"),
        ({"search": "bayes"}, "unknown value for search 'bayes'"),
        ({"reference": "0"}, "expected SA,RA"),
        ({"quantile": 0.7}, "must be at most 0.5"),
        ({"objective": ""}, "objective= is empty"),
        ({"colour": "red"}, "no word of a sweep"),
    ],
)
def test_contradicting_options_are_refused(told: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as error:
        words_of(told)
    assert "\n" not in str(error.value)
