"""Evidence for all checks, gathered once: every forward pass of the diagnosis, and PGD with its whole path recorded."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

from distcond.attacks.attack import Logits
from distcond.attacks.pgd import input_gradient
from distcond.attacks.projection import project, random_init, steepest_direction
from distcond.attacks.row_losses import cross_entropy, margin
from distcond.config.schema import AttackConfig
from distcond.gradient_masking.random_search import random_search
from distcond.seeding import generator


class LossTrace(NamedTuple):
    """What a network says of N images at T places each."""

    loss: Tensor  # (T, N) cross-entropy
    margin: Tensor  # (T, N) best wrong logit minus the right one: above 0 the answer is wrong
    wrong: Tensor  # (T, N) bool


def trace_logits(logits: Tensor, y: Tensor) -> LossTrace:
    """One place: logits (N, K), labels (N,)."""
    logits = logits.detach()
    return LossTrace(cross_entropy(logits, y)[None], margin(logits, y)[None], (logits.argmax(1) != y)[None])


def concat_traces(places: list[LossTrace]) -> LossTrace:
    """Several places in their order."""
    return LossTrace(*(torch.cat(values) for values in zip(*places, strict=True)))


def pgd_trace(logits: Logits, x: Tensor, y: Tensor, config: AttackConfig, seed: int) -> LossTrace:
    """PGD on the cross-entropy, `config.num_steps + 1` places. Costs a forward and a backward a step, and a forward."""
    at = x
    if config.random_start:
        unit = torch.rand(x.shape, generator=generator(seed, "sentinel")) * 2 - 1  # on the CPU: alike on every device
        at = (x + random_init(unit.to(x.device), config.norm, config.epsilon)).clamp(0, 1)
    places: list[LossTrace] = []
    for _ in range(config.num_steps):
        grad, seen, _ = gradient_and_trace(logits, at, y)
        places.append(seen)
        at = project(at + config.step_size * steepest_direction(grad, config.norm), x, config.norm, config.epsilon)
    with torch.no_grad():
        places.append(trace_logits(logits(at), y))
    return concat_traces(places)


def gradient_and_trace(logits: Logits, at: Tensor, y: Tensor) -> tuple[Tensor, LossTrace, Tensor]:
    """The gradient (N, C, H, W) of the cross-entropy at `at`, what the network says there, and its logits (N, K)."""
    seen: list[tuple[LossTrace, Tensor]] = []

    def objective(leaf: Tensor) -> Tensor:
        out = logits(leaf)
        seen.append((trace_logits(out, y), out.detach()))
        return cross_entropy(out, y).sum()

    return input_gradient(objective, at), *seen[0]


#: Where the ray along the gradient is looked at, in shares of epsilon; the last is the single step.
EPSILON_SHARES = (0.25, 0.5, 0.75, 1.0)
#: A radius at which any image can become a grey one, in pixels of [0, 1] (L2: the same move in all pixels).
UNBOUNDED = 0.5


class Depth(NamedTuple):
    """How much is looked at.

    Attributes:
        num_steps: of the many-step attack; 0 = that of the config, with its step size, else steps of epsilon / 2.
        unbounded_steps: of the attack without bound; 0 = it is left out.
        queries: of the black-box attack; 0 = it is left out.
        repeats: how often more the first question is asked.
    """

    num_steps: int = 0
    unbounded_steps: int = 0
    queries: int = 0
    repeats: int = 1

    def steps(self, config: AttackConfig) -> int:
        """Steps of the many-step attack."""
        return self.num_steps or config.num_steps

    def compares(self, trained: AttackConfig | None) -> bool:
        """Whether the attack of training is held against many steps: a cheap look does so of few steps alone."""
        return trained is not None and (not self.num_steps or trained.num_steps <= FEW_STEPS)

    def forwards(self, config: AttackConfig, trained: AttackConfig | None = None) -> int:
        """Forward-equivalents per image: a forward pass is 1, a backward to the input another."""
        ascents = [self.steps(config), *([self.unbounded_steps] if self.unbounded_steps else [])]
        if trained is not None and self.compares(trained):
            ascents += [trained.num_steps, *([] if _covers_training_attack(config, trained, self) else [MANY_STEPS])]
        return 2 + len(EPSILON_SHARES) + sum(2 * steps + 1 for steps in ascents) + self.queries + self.repeats


#: Cheap enough for every epoch.
PROBE = Depth(num_steps=5)
#: For numbers that are published: the config's own attack, and attacks of other kinds to hold against it.
FULL = Depth(unbounded_steps=20, queries=200, repeats=4)
#: Training with so few steps may collapse (Wong et al. 2020; Kim et al. 2021).
FEW_STEPS = 3
#: Steps of a quarter of the radius that are held against the attack of training, where no other attack covers its ball.
MANY_STEPS = 10


class Evidence(NamedTuple):
    """Of the N examples that are right without attack."""

    gradient: Tensor  # (N,) largest absolute entry of the loss gradient at the image
    clean: LossTrace  # at the image, one place
    ray: LossTrace  # at SHARES of epsilon along the gradient
    path: LossTrace  # of the many-step attack, from its start on
    unbounded: LossTrace | None  # of the same with UNBOUNDED for epsilon
    black_box: Tensor | None  # (N,) bool, broken by random search
    num_examples: int  # examples, wrong ones included
    classes: int
    spread: float = 0.0  # largest distance between two answers to one question, as vectors of unit length
    left: Tensor | None = None  # (N,) bool, right after the attack of training
    many: Tensor | None = None  # (N,) bool, broken within its ball by many steps

    @property
    def size(self) -> int:
        """N."""
        return len(self.gradient)


def gather_evidence(
    logits: Logits,
    x: Tensor,
    y: Tensor,
    config: AttackConfig,
    seed: int,
    depth: Depth,
    trained: AttackConfig | None = None,
) -> Evidence:
    """Evidence on images x (N, C, H, W) in [0, 1] and labels (N,); wrong ones are left out.

    A function of its arguments: no generator but its own is drawn from. `trained` is the attack of training, if any.
    """
    grad, clean, first = gradient_and_trace(logits, x, y)
    spread = _answer_spread(logits, x, first, depth.repeats)
    num_examples, right = len(y), ~clean.wrong[0]
    x, y, grad, clean = x[right], y[right], grad[right], LossTrace(*(values[:, right] for values in clean))
    many, black_box, unbounded = _many_step_attack(config, depth), None, None
    if depth.unbounded_steps:
        unbounded = pgd_trace(logits, x, y, _unbounded_attack(config, depth.unbounded_steps, x.shape[1:].numel()), seed)
    if depth.queries:
        black_box = random_search(logits, x, y, config.norm, config.epsilon, depth.queries, seed)
    path = pgd_trace(logits, x, y, many, seed)
    ray, largest = _trace_ray(logits, x, y, grad, config), grad.abs().flatten(1).amax(1)
    left = broken = None
    if trained is not None and depth.compares(trained):
        left = ~pgd_trace(logits, x, y, trained, seed).wrong[-1]
        own = (
            path
            if _covers_training_attack(config, trained, depth)
            else pgd_trace(logits, x, y, _steps_of_a_quarter(trained), seed)
        )
        broken = own.wrong.any(0)
    return Evidence(largest, clean, ray, path, unbounded, black_box, num_examples, first.shape[1], spread, left, broken)


@torch.no_grad()
def _answer_spread(logits: Logits, x: Tensor, first: Tensor, repeats: int) -> float:
    asked = (normalize(logits(x).flatten(1), dim=1) - normalize(first.flatten(1), dim=1) for _ in range(repeats))
    return max((float(apart.norm(dim=1).max()) for apart in asked), default=0.0) if len(x) else 0.0


def _covers_training_attack(config: AttackConfig, trained: AttackConfig, depth: Depth) -> bool:
    """Whether the many-step attack of the look is many steps in the ball of training."""
    alike = config.norm == trained.norm and math.isclose(config.epsilon, trained.epsilon, rel_tol=0.01)
    reach = depth.steps(config) * (config.epsilon / 2 if depth.num_steps else config.step_size)
    return alike and depth.steps(config) > trained.num_steps and depth.steps(config) >= 5 and reach >= config.epsilon


def _steps_of_a_quarter(trained: AttackConfig) -> AttackConfig:
    return replace(trained, num_steps=MANY_STEPS, step_size=trained.epsilon / 4, random_start=True)


@torch.no_grad()
def _trace_ray(logits: Logits, x: Tensor, y: Tensor, grad: Tensor, config: AttackConfig) -> LossTrace:
    way = config.epsilon * steepest_direction(grad, config.norm)
    return concat_traces([trace_logits(logits((x + share * way).clamp(0, 1)), y) for share in EPSILON_SHARES])


def _many_step_attack(config: AttackConfig, depth: Depth) -> AttackConfig:
    if not depth.num_steps:
        return config
    return replace(config, num_steps=depth.num_steps, step_size=config.epsilon / 2, random_start=True)


def _unbounded_attack(config: AttackConfig, steps: int, pixels: int) -> AttackConfig:
    epsilon = UNBOUNDED * (1.0 if config.norm == "Linf" else pixels**0.5)
    return replace(config, epsilon=epsilon, num_steps=steps, step_size=epsilon / 5, random_start=True)
