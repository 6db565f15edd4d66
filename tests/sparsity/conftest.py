"""A few layers with artificial gradients, on which masks change exactly as in a run."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from distcond.methods.method import Sparsity
from distcond.seeding import generator


class Bench(NamedTuple):
    """Layers, their optimiser and the masks over them, driven without data."""

    model: nn.Module
    optimiser: torch.optim.SGD
    masks: Sparsity
    total: int  # steps of the run
    per_epoch: int

    def run(self, first: int, last: int) -> None:
        """Steps `first` + 1 to `last` with gradients that are a function of the step."""
        for step in range(first + 1, last + 1):
            for name, parameter in self.model.named_parameters():
                parameter.grad = torch.randn(parameter.shape, generator=generator("gradient", step, name))
            for name, module in self.model.named_modules():
                for path, total in getattr(module, "dense_gradients", {}).items():
                    total += torch.randn(total.shape, generator=generator("dense", step, name, path))
            self.optimiser.step()
            self.masks.after_step(self.optimiser, step / self.total, step)
            if step % self.per_epoch == 0:
                self.masks.after_epoch(record(step // self.per_epoch), self.optimiser)

    def state(self) -> bytes:
        """A checkpoint, as the engine writes it."""
        file = io.BytesIO()
        parts = self.model.state_dict(), self.optimiser.state_dict(), self.masks.state_dict(), self.masks.rank_state()
        torch.save(parts, file)
        return file.getvalue()

    def load(self, state: bytes) -> None:
        """Resume from `state`."""
        model, optimiser, masks, own = torch.load(io.BytesIO(state), weights_only=True)
        self.model.load_state_dict(model)
        self.optimiser.load_state_dict(optimiser)
        self.masks.load_state_dict(masks)
        self.masks.load_rank_state(own)


def record(epoch: int) -> dict[str, Any]:
    """An epoch's history: the gap grows all the time, the loss every other epoch."""
    ra = 0.5 - 0.01 * epoch
    return {"epoch": epoch, "train_ra": 0.6, "val": [{"lam": 1.0, "sa": 0.9, "ra": ra, "ra_loss": float(epoch % 2)}]}


@pytest.fixture
def bench() -> Callable[..., Bench]:
    """`bench(model, masks, total=12, per_epoch=3)`: started masks and an optimiser."""

    def make(model: nn.Module, masks: Sparsity, total: int = 12, per_epoch: int = 3, start: bool = True) -> Bench:
        if start:
            masks.start("train")
        return Bench(model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), masks, total, per_epoch)

    return make


@pytest.fixture
def resumes() -> Callable[[Callable[[bool], Bench], int], None]:
    """`resumes(make, total)`: saved after any step and loaded into a new bench, a run ends as the uninterrupted one."""

    def check(make: Callable[[bool], Bench], total: int) -> None:
        whole, states = make(True), list[bytes]()
        for step in range(total):
            states.append(whole.state())
            whole.run(step, step + 1)
        for step, state in enumerate(states):
            again = make(False)
            again.load(state)
            again.run(step, total)
            assert alike(again.model.state_dict(), whole.model.state_dict()), step
            assert alike(again.masks.state_dict(), whole.masks.state_dict()), step
            assert alike(again.masks.rank_state(), whole.masks.rank_state()), step
            assert again.masks.report() == whole.masks.report(), step

    return check


def alike(one: Any, other: Any) -> bool:
    """Whether two states hold the same bits."""
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(alike(a, b) for a, b in zip(one, other, strict=True))
    return bool(one == other)
