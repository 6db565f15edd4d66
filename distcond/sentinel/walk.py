"""A gradient attack with its whole path on record."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from distcond.attacks.attack import Logits
from distcond.attacks.ball import ascent, project, scatter
from distcond.attacks.pgd import input_gradient
from distcond.attacks.row_losses import cross_entropy, margin
from distcond.config.schema import AttackConfig
from distcond.seeding import generator


class Seen(NamedTuple):
    """What a network says of N images at T places each."""

    loss: Tensor  # (T, N) cross-entropy
    margin: Tensor  # (T, N) best wrong logit minus the right one: above 0 the answer is wrong
    wrong: Tensor  # (T, N) bool


def look(logits: Tensor, y: Tensor) -> Seen:
    """One place: logits (N, K), labels (N,)."""
    logits = logits.detach()
    return Seen(cross_entropy(logits, y)[None], margin(logits, y)[None], (logits.argmax(1) != y)[None])


def joined(places: list[Seen]) -> Seen:
    """Several places in their order."""
    return Seen(*(torch.cat(values) for values in zip(*places, strict=True)))


def walk(logits: Logits, x: Tensor, y: Tensor, config: AttackConfig, seed: int) -> Seen:
    """PGD on the cross-entropy, `config.num_steps + 1` places. Costs a forward and a backward a step, and a forward."""
    at = x
    if config.random_start:
        unit = torch.rand(x.shape, generator=generator(seed, "sentinel")) * 2 - 1  # on the CPU: alike on every device
        at = (x + scatter(unit.to(x.device), config.norm, config.epsilon)).clamp(0, 1)
    places: list[Seen] = []
    for _ in range(config.num_steps):
        grad, seen, _ = graded(logits, at, y)
        places.append(seen)
        at = project(at + config.step_size * ascent(grad, config.norm), x, config.norm, config.epsilon)
    with torch.no_grad():
        places.append(look(logits(at), y))
    return joined(places)


def graded(logits: Logits, at: Tensor, y: Tensor) -> tuple[Tensor, Seen, Tensor]:
    """The gradient (N, C, H, W) of the cross-entropy at `at`, what the network says there, and its logits (N, K)."""
    seen: list[tuple[Seen, Tensor]] = []

    def objective(leaf: Tensor) -> Tensor:
        out = logits(leaf)
        seen.append((look(out, y), out.detach()))
        return cross_entropy(out, y).sum()

    return input_gradient(objective, at), *seen[0]
