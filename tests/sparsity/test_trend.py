"""Made-up histories: when density falls, when it rises, and when it is left alone."""

from __future__ import annotations

import pytest

from distcond.sparsity.drop_and_grow import DensityTrend


def after(gaps: list[float], losses: list[float], **settings: float) -> DensityTrend:
    trend = DensityTrend(**settings)  # type: ignore[arg-type]
    for gap, loss in zip(gaps, losses, strict=True):
        points = [{"lam": 0.0, "ra": 0.0, "ra_loss": 9.0}, {"lam": 1.0, "ra": 0.5, "ra_loss": loss}]
        trend.add_epoch({"train_ra": 0.5 + gap, "val": points})
    return trend


FALLING = [5.0, 4.0, 3.0, 2.0, 1.0]


@pytest.mark.parametrize(
    ("gaps", "losses", "extra"),
    [
        ([0.0, 0.1, 0.2, 0.3, 0.4], FALLING, (0.4, 0.0)),
        ([0.4, 0.3, 0.2, 0.1, 0.0], FALLING, (0.0, 0.0)),
        # Two of four upwards are half: enough. One is not.
        ([0.2, 0.3, 0.1, 0.2, 0.0], FALLING, (0.4, 0.0)),
        ([0.3, 0.4, 0.2, 0.1, 0.0], FALLING, (0.0, 0.0)),
        # A gap that stands still does not grow; a loss that stands still does not fall.
        ([0.25] * 5, FALLING, (0.0, 0.0)),
        ([0.4, 0.3, 0.2, 0.1, 0.0], [1.0] * 5, (0.0, 0.05)),
        ([0.4, 0.3, 0.2, 0.1, 0.0], [1.0, 2.0, 1.0, 2.0, 1.0], (0.0, 0.05)),
        ([0.4, 0.3, 0.2, 0.1, 0.0], [1.0, 2.0, 1.5, 1.2, 1.0], (0.0, 0.0)),
        # Both at once.
        ([0.0, 0.1, 0.2, 0.3, 0.4], [1.0, 2.0, 3.0, 4.0, 5.0], (0.4, 0.05)),
        # Only the last five epochs count.
        ([0.0, 0.1, 0.2, 0.3, 0.9, 0.8, 0.7, 0.6, 0.5], [9.0, 8.0, 7.0, 6.0, *FALLING], (0.0, 0.0)),
    ],
)
def test_by_hand(gaps: list[float], losses: list[float], extra: tuple[float, float]) -> None:
    assert after(gaps, losses).extra_shares(0.6) == extra


def test_short_histories_and_early_epochs_change_nothing() -> None:
    gaps, losses = [0.0, 0.1, 0.2, 0.3, 0.4], [1.0, 2.0, 3.0, 4.0, 5.0]
    assert after(gaps, losses).extra_shares(0.5) == (0.0, 0.0)
    assert after(gaps, losses, start=0.3).extra_shares(0.5) == (0.4, 0.05)
    assert after(gaps[1:], losses[1:]).extra_shares(0.9) == (0.0, 0.0)
    assert after(gaps[1:], losses[1:], window=3).extra_shares(0.9) == (0.4, 0.05)


def test_trend_updates_are_reported_and_saved() -> None:
    trend = after([0.0, 0.1, 0.2, 0.3, 0.4], FALLING)
    trend.extra_shares(0.6)
    trend.extra_shares(0.7)
    assert trend.report() == {"drops_more": 2.0, "grows_more": 0.0}
    again = DensityTrend()
    again.load_state_dict(trend.state_dict())
    assert again == trend
