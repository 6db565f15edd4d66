"""Shares of a step's time, measured in some steps."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from distcond.methods import stopwatch
from distcond.methods.stopwatch import NULL_TIMER, PARTS, Stopwatch

CPU = torch.device("cpu")


@pytest.fixture
def pass_time(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """`pass_time(seconds)` on a clock that stands until it is moved."""
    at = [100.0]
    monkeypatch.setattr(stopwatch, "time", SimpleNamespace(perf_counter=lambda: at[0]))

    def later(seconds: float) -> None:
        at[0] += seconds

    return later


def step(watch: Stopwatch, later: Callable[[float], None]) -> None:
    watch.begin()
    with watch.part("data"):
        later(1)
    with watch.part("passes"):
        later(2)
        with watch.part("attack"):
            later(6)
        later(0.5)
    later(0.5)
    watch.end()


def test_all_time_is_counted_once(pass_time: Callable[[float], None]) -> None:
    watch = Stopwatch(CPU)
    step(watch, pass_time)
    pass_time(50)  # between steps
    assert watch.seconds == {"data": 1, "attack": 6, "passes": 2.5, "reduction": 0, "rest": 0.5}
    shares = watch.shares()
    assert shares is not None
    assert list(shares) == list(PARTS)
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["attack"] == pytest.approx(0.6)


def test_only_one_step_per_interval_is_timed(pass_time: Callable[[float], None]) -> None:
    watch = Stopwatch(CPU, interval=25)
    for _ in range(6):  # of ten seconds each: the first and the fourth
        step(watch, pass_time)
    assert watch.seconds["attack"] == 12
    watch.reset()
    assert watch.shares() is None


def test_inactive_stopwatches_do_not_synchronise(pass_time: Callable[[float], None]) -> None:
    asleep = Stopwatch(CPU, active=False)
    for watch in (asleep, NULL_TIMER):
        step(watch, pass_time)
        assert not watch.running
        assert watch.shares() is None


def test_time_after_the_last_gradient_is_reduction(pass_time: Callable[[float], None]) -> None:
    class Slow(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, *grads: torch.Tensor) -> torch.Tensor:
            pass_time(3)
            return grads[0]

    weight, watch = torch.nn.Parameter(torch.ones(2)), Stopwatch(CPU)
    watch.begin()
    with watch.backward([weight]):
        Slow.apply(weight).sum().backward()
        pass_time(4)  # where DDP waits for the other ranks
    watch.end()
    assert watch.seconds == {"data": 0, "attack": 0, "passes": 3, "reduction": 4, "rest": 0}
    assert not weight._post_accumulate_grad_hooks


@pytest.mark.gpu
def test_timed_steps_synchronise_the_gpu() -> None:
    device = torch.device("cuda")
    watch, weight = Stopwatch(device), torch.nn.Parameter(torch.ones(4096, 4096, device=device))
    (weight @ weight).sum().backward()
    watch.begin()
    with watch.part("attack"):
        for _ in range(20):
            _ = weight.detach() @ weight.detach()
    with watch.backward([weight]):
        (weight @ weight).sum().backward()
    watch.end()
    assert watch.seconds["attack"] > watch.seconds["passes"] > 0
    assert watch.seconds["reduction"] < watch.seconds["passes"]
