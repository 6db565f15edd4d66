"""What all checks look at, gathered once: every forward pass of the sentinel is here."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from distcond.attacks.attack import Logits
from distcond.attacks.ball import ascent
from distcond.config.schema import AttackConfig
from distcond.sentinel.random_search import random_search
from distcond.sentinel.walk import Seen, graded, joined, look, walk

#: Where the ray along the gradient is looked at, in shares of epsilon; the last is the single step.
SHARES = (0.25, 0.5, 0.75, 1.0)
#: A radius at which any image can become a grey one, in pixels of [0, 1] (L2: the same move in all pixels).
UNBOUNDED = 0.5


class Depth(NamedTuple):
    """How much is looked at.

    Attributes:
        num_steps: of the many-step attack; 0 = that of the config, with its step size, else steps of epsilon / 2.
        unbounded_steps: of the attack without bound; 0 = it is left out.
        queries: of the black-box attack; 0 = it is left out.
    """

    num_steps: int = 0
    unbounded_steps: int = 0
    queries: int = 0

    def steps(self, config: AttackConfig) -> int:
        """Steps of the many-step attack."""
        return self.num_steps or config.num_steps

    def forwards(self, config: AttackConfig) -> int:
        """Forward-equivalents per image: a forward pass is 1, a backward to the input another."""
        ascents = [self.steps(config), *([self.unbounded_steps] if self.unbounded_steps else [])]
        return 2 + len(SHARES) + sum(2 * steps + 1 for steps in ascents) + self.queries


#: Cheap enough for every epoch.
PROBE = Depth(num_steps=5)
#: For numbers that are published: the config's own attack, and attacks of other kinds to hold against it.
FULL = Depth(unbounded_steps=20, queries=200)


class Evidence(NamedTuple):
    """Of the N examples that are right without attack."""

    gradient: Tensor  # (N,) largest absolute entry of the loss gradient at the image
    clean: Seen  # at the image, one place
    ray: Seen  # at SHARES of epsilon along the gradient
    path: Seen  # of the many-step attack, from its start on
    unbounded: Seen | None  # of the same with UNBOUNDED for epsilon
    black_box: Tensor | None  # (N,) bool, broken by random search
    looked_at: int  # examples, wrong ones included
    classes: int

    @property
    def size(self) -> int:
        """N."""
        return len(self.gradient)


def gather(logits: Logits, x: Tensor, y: Tensor, config: AttackConfig, seed: int, depth: Depth) -> Evidence:
    """Evidence on images x (N, C, H, W) in [0, 1] and labels (N,); wrong ones are left out.

    A function of its arguments: no generator but its own is drawn from, and `logits` has to answer the same each time.
    """
    grad, clean, classes = graded(logits, x, y)
    looked_at, right = len(y), ~clean.wrong[0]
    x, y, grad, clean = x[right], y[right], grad[right], Seen(*(values[:, right] for values in clean))
    many, black_box, unbounded = _many(config, depth), None, None
    if depth.unbounded_steps:
        unbounded = walk(logits, x, y, _unbounded(config, depth.unbounded_steps, x.shape[1:].numel()), seed)
    if depth.queries:
        black_box = random_search(logits, x, y, config.norm, config.epsilon, depth.queries, seed)
    path = walk(logits, x, y, many, seed)
    ray, largest = _ray(logits, x, y, grad, config), grad.abs().flatten(1).amax(1)
    return Evidence(largest, clean, ray, path, unbounded, black_box, looked_at, classes)


@torch.no_grad()
def _ray(logits: Logits, x: Tensor, y: Tensor, grad: Tensor, config: AttackConfig) -> Seen:
    way = config.epsilon * ascent(grad, config.norm)
    return joined([look(logits((x + share * way).clamp(0, 1)), y) for share in SHARES])


def _many(config: AttackConfig, depth: Depth) -> AttackConfig:
    if not depth.num_steps:
        return config
    return replace(config, num_steps=depth.num_steps, step_size=config.epsilon / 2, random_start=True)


def _unbounded(config: AttackConfig, steps: int, pixels: int) -> AttackConfig:
    epsilon = UNBOUNDED * (1.0 if config.norm == "Linf" else pixels**0.5)
    return replace(config, epsilon=epsilon, num_steps=steps, step_size=epsilon / 5, random_start=True)
