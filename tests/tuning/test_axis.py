from __future__ import annotations

import pytest

from distcond.errors import ConfigError
from distcond.seeding import generator
from distcond.tuning.axis import Axis, read_axis

LOG = Axis("optim.lr", "loguniform", 0.01, 1.0)


def test_ends_and_middle_of_a_logarithmic_axis() -> None:
    assert LOG.at(0.0) == pytest.approx(0.01)
    assert LOG.at(0.5) == pytest.approx(0.1)
    assert LOG.grid(3) == pytest.approx([0.01, 0.1, 1.0])


def test_a_draw_is_its_seed_and_lies_within() -> None:
    drawn = [LOG.draw(generator(0, number)) for number in range(200)]
    assert drawn == [LOG.draw(generator(0, number)) for number in range(200)]
    assert 0.01 <= min(drawn) < 0.02 and 0.5 < max(drawn) <= 1.0


def test_an_integer_axis_gives_both_ends() -> None:
    axis = Axis("method.update_every", "integer", 2, 4)
    assert {axis.draw(generator(number)) for number in range(40)} == {2, 3, 4}
    assert axis.grid(9) == [2, 3, 4]


def test_a_choice_gives_lists_as_they_are() -> None:
    axis = read_axis("optim.no_decay", {"kind": "choice", "values": [["alpha"], []]})
    assert axis.grid(3) == [["alpha"], []]
    assert axis.moved([], generator(0)) in (["alpha"], [])


def test_a_move_stays_within_the_ends() -> None:
    assert {LOG.moved(1.0, generator(number)) for number in range(20)} == {0.8, 1.0}


def test_what_a_file_says_comes_back() -> None:
    entry = {"kind": "uniform", "low": 0.1, "high": 0.5, "when": {"method": ["smart"]}}
    axis = read_axis("method.overlap", entry)
    assert axis.to_plain() == entry
    assert axis.exists({"method": "smart"}) and not axis.exists({"method": "floats"})


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"kind": "choice", "values": []}, "values is empty"),
        ({"kind": "choice"}, "values is empty"),
        ({"kind": "normal"}, "unknown kind 'normal'"),
        ({"kind": "uniform", "low": 1, "high": 0}, "low=1 is above high=0"),
        ({"kind": "uniform", "low": "a", "high": 0}, "low=a: expected a number"),
        ({"kind": "loguniform", "low": 0, "high": 1}, "a logarithm needs low above 0"),
        ({"kind": "integer", "low": 0.5, "high": 1}, "expected whole numbers"),
        ({"kind": "uniform", "lo": 1}, "unknown word 'lo': did you mean low?"),
        (3, "expected a table"),
    ],
)
def test_wrong_entry_is_refused_in_one_line(entry: object, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as error:
        read_axis("optim.lr", entry)
    assert str(error.value).startswith("space optim.lr") and "\n" not in str(error.value)
