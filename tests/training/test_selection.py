"""The rules that choose the best checkpoint, on curves of validation."""

from __future__ import annotations

import pytest

from distcond.training.selection import Rule, Winner, score, update, winners

#: By epoch: (SA, RA) at lam 0 and 1.
CURVES = {
    1: [{"sa": 0.9, "ra": 0.1}, {"sa": 0.7, "ra": 0.4}],
    2: [{"sa": 0.5, "ra": 0.2}, {"sa": 0.6, "ra": 0.5}],
    3: [{"sa": 0.9, "ra": 0.2}, {"sa": 0.5, "ra": 0.3}],
}


@pytest.mark.parametrize(("rule", "best"), [("mean", 1), ("sa", 1), ("ra", 2), ("each", 1)])
def test_rules_choose_different_epochs(rule: Rule, best: int) -> None:
    assert max(CURVES, key=lambda epoch: score(rule, CURVES[epoch])) == best
    assert score(rule, CURVES[2]) == pytest.approx({"ra": 0.35, "sa": 0.55}.get(rule, 0.45))


def test_each_point_and_metric_has_a_winner() -> None:
    kept = dict[str, Winner]()
    for epoch, curve in CURVES.items():
        update(kept, winners("each", curve, epoch))
    # Of equals the earlier epoch stays.
    assert kept == {"sa/0": (1, 0.9), "ra/0": (2, 0.2), "sa/1": (1, 0.7), "ra/1": (2, 0.5)}


@pytest.mark.parametrize("rule", ["mean", "sa", "ra"])
def test_other_rules_keep_one_checkpoint(rule: Rule) -> None:
    assert list(winners(rule, CURVES[1], 1)) == []
