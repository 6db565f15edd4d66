"""attack_mode=train: the training attack sees statistics of the batch, and its steps update the running ones."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from distcond.methods.step_context import StepContext, StepRandomness
from distcond.models.conditional import ConditionalModel
from distcond.runs.build import build_model, build_step

STEPS = 3


def prepared(tiny: Any, method: str, mode: str, **settings: Any) -> tuple[Any, ConditionalModel, StepRandomness]:
    config = tiny(
        method, attack__num_steps=STEPS, attack__epsilon=0.1, attack__step_size=0.04, precision__train="float32",
        attack_mode=mode, **settings,
    )  # fmt: skip
    model = build_model(config).train()
    lam = torch.ones(8) if method == "pgd_at" else torch.tensor([0.0] * 4 + [1.0] * 4)
    return config, model, StepRandomness(0, 0, 0, 0, 1, lam)


def images() -> tuple[Tensor, Tensor]:
    return torch.rand(8, 3, 8, 8, generator=torch.Generator().manual_seed(1)), torch.arange(8)


@pytest.mark.parametrize(("mode", "updates"), [("eval", 1), ("train", 1 + STEPS)])
@pytest.mark.parametrize("method", ["pgd_at", "float"])
def test_every_attack_step_updates_the_statistics(tiny: Any, method: str, mode: str, updates: int) -> None:
    config, model, randomness = prepared(tiny, method, mode)
    step = build_step(config, model, torch.device("cpu"))
    step(*images(), randomness).loss.backward()
    counters = {name: int(value) for name, value in model.state_dict().items() if name.endswith("batches_tracked")}
    adversarial = [count for name, count in counters.items() if ".clean." not in name]
    assert set(adversarial) == {updates}
    assert {count for name, count in counters.items() if ".clean." in name} <= {1}
    assert all(module.training for module in model.modules())


def test_attack_ascends_the_loss_of_train_mode(tiny: Any) -> None:
    config, model, randomness = prepared(tiny, "pgd_at", "train")
    (x, y), rows = images(), randomness.all_rows()
    reference = build_model(config).train()
    context = StepContext(model, config.attack, randomness, torch.float32, attack_mode="train")
    found = context.make_adversarial(x, y, rows)
    at = (x + 0.1 * randomness.uniform(rows, x, "attack0")).clamp(0, 1)
    for _ in range(STEPS):
        at = at.detach().requires_grad_()
        loss = F.cross_entropy(reference(at, reference.condition(1.0)), y, reduction="sum")
        at = at + 0.04 * torch.autograd.grad(loss, at)[0].sign()
        at = torch.min(torch.max(at, x - 0.1), x + 0.1).clamp(0, 1)
    assert torch.allclose(found, at.detach(), atol=1e-6)
    assert torch.equal(
        torch.cat([v.flatten() for n, v in model.state_dict().items() if "running" in n]),
        torch.cat([v.flatten() for n, v in reference.state_dict().items() if "running" in n]),
    )
