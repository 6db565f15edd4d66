"""The compiled attack equals the eager one, as one graph that is compiled once."""

from __future__ import annotations

import shutil
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters

from distcond.errors import ConfigError
from distcond.methods.compiled_attack import CompiledAttack
from distcond.methods.step_context import StepRandomness
from distcond.methods.train_step import TrainStep
from distcond.registry import lookup
from distcond.runs.build import build_model, build_step, check_step
from distcond.seeding import generator
from support.groups import quick

METHODS = ("float", "floats", "float_slim", "oat", "smart", "pgd_at", "trades")
N = 16
Y = torch.arange(N) % 10
X = torch.rand(N, 3, 8, 8, generator=generator("images")).contiguous(memory_format=torch.channels_last)


def losses(step: TrainStep, config: Any, steps: int = 2) -> list[Tensor]:
    """The losses of some steps, with updates of the running statistics and of the weights between them."""
    sampler, found = lookup("sampler", config.sampler.name), list[Tensor]()
    optimiser = torch.optim.SGD(step.parameters(), lr=0.1)
    for number in range(steps):
        lam = sampler.draw(config.sampler, N, generator("lam")).sort().values
        loss = step(X, Y, StepRandomness(0, 0, number, 0, 1, lam)).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        found.append(loss.detach())
    return found


@pytest.mark.parametrize(
    ("method", "precision"),
    quick(
        ("float", "bf16"), ("pgd_at", "float32"),
        of=[(method, precision) for method in METHODS for precision in ("float32", "bf16")],
    ),
)  # fmt: skip
def test_compiled_attacks_equal_eager_ones_bit_for_bit(tiny: Any, method: str, precision: str) -> None:
    torch._dynamo.reset()
    config = tiny(method, attack__num_steps=2, precision__train=precision, eval__lam_grid="0,1")
    found = []
    for compiled in (False, True):
        step = build_step(config, build_model(config), torch.device("cpu")).train()
        step.fold_dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        if compiled:
            counters.clear()
            # The graph as it is traced: whatever a code generator does to it, sums keep their order here.
            step.compiled_attack = CompiledAttack(step.model, config.attack, step.autocast, backend="aot_eager")
        found.append(losses(step, config))
    widths = len(step.model.width_mults)
    assert counters["stats"]["unique_graphs"] == widths  # and no more in the second step
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_compiled_steps_train_a_run(small: Any, whole: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    torch._dynamo.reset()
    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda *a, **k: real(*a, **{**k, "backend": "aot_eager"}))
    settings = {"epochs": 1, "precision__train": "float32"}
    eager, compiled = (whole(small("float", **settings, **more)) for more in ({}, {"precision__compile": "attack"}))
    from distcond.runs.load_run import load

    one, other = (load(path, "last").state_dict() for path in (eager, compiled))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_what_cannot_compile_is_refused(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    check_step(tiny("float", precision__fold_attack=False))
    with pytest.raises(ConfigError, match=r"^precision.compile=attack: .*precision.fold_attack=true"):
        check_step(tiny("float", precision__compile="attack", precision__fold_attack=False))
    with pytest.raises(ConfigError, match=r"^precision.compile=attack: not with attack_mode=train"):
        check_step(tiny("float", precision__compile="attack", attack_mode="train"))
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"^precision.compile=attack: no C\+\+ compiler"):
        check_step(tiny("float", precision__compile="attack"))
