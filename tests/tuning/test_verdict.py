from __future__ import annotations

import pytest
import torch

from distcond.config.overrides import resolve
from distcond.errors import ConfigError
from distcond.results.row import Row
from distcond.seeding import generator
from distcond.tuning.objective import read_objective
from distcond.tuning.sweep_report.verdict import agreement, counted, judge, same_order


def test_only_a_clear_difference_is_better() -> None:
    assert judge([0.50, 0.51, 0.52], [0.40, 0.41, 0.43]).better
    close = judge([0.50, 0.41, 0.52], [0.40, 0.51, 0.43])
    assert not close.better and str(close).startswith("not shown to be better: hypervolume +0.0300")


def test_the_interval_is_students() -> None:
    found = judge([1.0, 2.0, 3.0], [0.0, 0.0, 0.0])
    assert (found.low, found.high) == pytest.approx((2 - 4.303 / 3**0.5, 2 + 4.303 / 3**0.5))


def test_one_seed_shows_nothing() -> None:
    assert not judge([0.9], [0.1]).better


def test_order() -> None:
    assert same_order([0.3, 0.2, 0.1], [0.2, 0.1, 0.0])
    assert not same_order([0.3, 0.2, 0.1], [0.2, 0.3, 0.0])


def test_rank_agreement_is_kendalls_tau() -> None:
    from scipy.stats import kendalltau

    source = generator(0)
    cheap, strong = (torch.rand(9, generator=source).tolist() for _ in range(2))
    found = agreement([(3, a, b) for a, b in zip(cheap, strong, strict=True)])
    assert found.tau == pytest.approx(kendalltau(cheap, strong).statistic) and (found.pairs, found.trials) == (36, 9)
    assert agreement([(3, a, -a) for a in cheap]).tau == -1


def test_only_trials_of_equal_length_are_compared() -> None:
    # The longer ones are better under both; among equals the attacks contradict each other.
    assert agreement([(1, 0.1, 0.2), (1, 0.2, 0.1), (9, 0.7, 0.8), (9, 0.8, 0.7)])[:2] == (-1, 2)
    assert agreement([(1, 0.1, 0.2), (1, 0.2, 0.2)]).tau == 0, "a tie"


@pytest.mark.parametrize(
    ("count", "turn", "said"),
    [
        (1, 1, "no two of 1 trials were trained equally long"),
        (7, 1, "tau +1.00 (7 trials, 21 pairs trained equally long); fewer than 28 pairs are too few to tell"),
        (8, 1, "tau +1.00 (8 trials, 28 pairs trained equally long); good"),
        (8, -1, "tau -1.00 (8 trials, 28 pairs trained equally long); low: the cheap attack is a poor proxy here"),
    ],
)
def test_low_or_unsure_agreement_is_reported(count: int, turn: int, said: str) -> None:
    assert said in str(agreement([(1, float(i), float(turn * i)) for i in range(count)]))


def row(lam: float, attack: str, correct: int, width: float = 1.0) -> Row:
    norm = "" if attack == "none" else "Linf"
    return Row(
        run_id="r", epoch=1, step=1, split="test", checkpoint="best", lam=lam, width=width, attack=attack, norm=norm,
        method="float", model="small_cnn", dataset="digits", seed=0, num_correct=correct, num_examples=10,
    )  # fmt: skip


ROWS = [
    row(0.0, "none", 9), row(0.0, "apgd-ce", 1), row(0.0, "fab", 2), row(0.0, "none", 10, width=0.5),
    row(1.0, "none", 6), row(1.0, "apgd-ce", 5), row(1.0, "fab", 4),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("hypervolume", 0.9 * 0.1 + 0.6 * 0.3), ("sa@0", 0.9), ("sa@1", 0.6), ("ra@0", 0.1), ("ra@1", 0.4)],
)
def test_confirmation_counts_the_objective_of_the_sweep(name: str, wanted: float) -> None:
    objective = read_objective(name, resolve("float_digits", {"eval.lam_grid": "0,1"}))
    assert counted(objective, ROWS, (0.0, 0.0)) == pytest.approx(wanted)
    assert str(judge([0.5, 0.5], [0.1, 0.1], name)).startswith(f"better: {name} +0.4000 on average over 2 fresh seeds")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("train_flops", "objective=train_flops: no accuracy, so no attack can confirm it; valid: a sweep whose first"),
        ("seconds", "objective=seconds: no accuracy"),
        ("ra@0.5", "objective=ra@0.5: the evaluation has no row for it"),
    ],
)
def test_objective_without_rows_is_refused(name: str, said: str) -> None:
    objective = read_objective(name, resolve("float_digits", {"eval.lam_grid": "0,0.5,1"}))
    with pytest.raises(ConfigError, match=said) as error:
        counted(objective, ROWS, (0.0, 0.0))
    assert "\n" not in str(error.value)
