"""Gathers the evidence for all checks, with every forward pass of a diagnosis; PGD with its loss at every step."""

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

#: Lengths of the steps along the gradient, in shares of epsilon; the last is FGSM's.
EPSILON_SHARES = (0.25, 0.5, 0.75, 1.0)
#: Epsilon at which any image can become grey, for pixels in [0, 1] (L2: the same change in every pixel).
UNBOUNDED = 0.5
#: Training attacks with at most this many steps may collapse (Wong et al. 2020; Kim et al. 2021).
FEW_STEPS = 3
#: Steps, of a quarter of epsilon, of the attack that is compared with the training attack if no other attack covers it.
MANY_STEPS = 10


class LossTrace(NamedTuple):
    """Losses of N images at T points each."""

    loss: Tensor  # (T, N) cross-entropy
    margin: Tensor  # (T, N) best wrong logit minus the right one: above 0 the prediction is wrong
    wrong: Tensor  # (T, N) bool


class Depth(NamedTuple):
    """Which checks to run, and with how many steps.

    Attributes:
        num_steps: steps of the many-step attack, of length epsilon / 2; 0 = steps and step size of the config.
        unbounded_steps: steps of the unbounded attack; 0 = skip it.
        queries: queries of the black-box attack; 0 = skip it.
        repeats: extra forward passes of the clean images, to detect random outputs.
    """

    num_steps: int = 0
    unbounded_steps: int = 0
    queries: int = 0
    repeats: int = 1

    def steps(self, config: AttackConfig) -> int:
        """Number of steps of the many-step attack."""
        return self.num_steps or config.num_steps

    def compares(self, trained: AttackConfig | None) -> bool:
        """Whether to compare the training attack with many steps; a cheap depth does so only for few-step training."""
        return trained is not None and (not self.num_steps or trained.num_steps <= FEW_STEPS)

    def forwards(self, config: AttackConfig, trained: AttackConfig | None = None) -> int:
        """Forward equivalents per image: a forward pass counts 1, a backward to the input 1."""
        attack_steps = [self.steps(config), *([self.unbounded_steps] if self.unbounded_steps else [])]
        if trained is not None and self.compares(trained):
            covered = _covers_training_attack(config, trained, self)
            attack_steps += [trained.num_steps, *([] if covered else [MANY_STEPS])]
        return 2 + len(EPSILON_SHARES) + sum(2 * steps + 1 for steps in attack_steps) + self.queries + self.repeats


#: Cheap enough for every epoch.
PROBE = Depth(num_steps=5)
#: For published numbers: the config's attack, and other kinds of attacks to compare with.
FULL = Depth(unbounded_steps=20, queries=200, repeats=4)


class Evidence(NamedTuple):
    """Measurements on the N examples that are classified correctly without attack."""

    gradient: Tensor  # (N,) largest absolute entry of the loss gradient at the image
    clean: LossTrace  # at the image, one point
    ray: LossTrace  # at EPSILON_SHARES along the gradient
    path: LossTrace  # of the many-step attack, including its start
    unbounded: LossTrace | None  # of the many-step attack with epsilon UNBOUNDED
    black_box: Tensor | None  # (N,) bool, broken by random search
    num_examples: int  # including misclassified examples
    classes: int
    spread: float = 0.0  # largest distance between two outputs for one image, as unit vectors
    survivors: Tensor | None = None  # (N,) bool, correct after the training attack
    broken_by_many: Tensor | None = None  # (N,) bool, broken by many steps within the epsilon of training

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
    """Evidence on images x (N, C, H, W) in [0, 1] with labels (N,). Misclassified images are skipped.

    `trained` is the training attack, if any. Uses no global random state.
    """
    grad, clean, outputs = gradient_and_trace(logits, x, y)
    spread = _output_spread(logits, x, outputs, depth.repeats)
    num_examples, correct = len(y), ~clean.wrong[0]
    x, y, grad, clean = x[correct], y[correct], grad[correct], LossTrace(*(values[:, correct] for values in clean))
    unbounded = black_box = survivors = broken_by_many = None
    if depth.unbounded_steps:
        unbounded = pgd_trace(logits, x, y, _unbounded_attack(config, depth.unbounded_steps, x.shape[1:].numel()), seed)
    if depth.queries:
        black_box = random_search(logits, x, y, config.norm, config.epsilon, depth.queries, seed)
    path = pgd_trace(logits, x, y, _many_step_attack(config, depth), seed)
    ray, largest = _trace_ray(logits, x, y, grad, config), grad.abs().flatten(1).amax(1)
    if trained is not None and depth.compares(trained):
        survivors = ~pgd_trace(logits, x, y, trained, seed).wrong[-1]
        covered = _covers_training_attack(config, trained, depth)
        many = path if covered else pgd_trace(logits, x, y, _quarter_step_attack(trained), seed)
        broken_by_many = many.wrong.any(0)
    num_classes = outputs.shape[1]
    return Evidence(
        largest, clean, ray, path, unbounded, black_box, num_examples, num_classes, spread, survivors, broken_by_many
    )


def pgd_trace(logits: Logits, x: Tensor, y: Tensor, config: AttackConfig, seed: int) -> LossTrace:
    """Losses of PGD on the cross-entropy at its `config.num_steps + 1` points.

    Costs a forward and a backward pass per step, and one forward pass.
    """
    x_adv = x
    if config.random_start:
        # Drawn on the CPU: the same on every device.
        unit = torch.rand(x.shape, generator=generator(seed, "sentinel")) * 2 - 1
        x_adv = (x + random_init(unit.to(x.device), config.norm, config.epsilon)).clamp(0, 1)
    traces: list[LossTrace] = []
    for _ in range(config.num_steps):
        grad, trace, _ = gradient_and_trace(logits, x_adv, y)
        traces.append(trace)
        step = config.step_size * steepest_direction(grad, config.norm)
        x_adv = project(x_adv + step, x, config.norm, config.epsilon)
    with torch.no_grad():
        traces.append(trace_logits(logits(x_adv), y))
    return concat_traces(traces)


def gradient_and_trace(logits: Logits, at: Tensor, y: Tensor) -> tuple[Tensor, LossTrace, Tensor]:
    """The gradient (N, C, H, W) of the cross-entropy at `at`, the losses there, and the logits (N, K)."""
    results: list[tuple[LossTrace, Tensor]] = []

    def objective(leaf: Tensor) -> Tensor:
        out = logits(leaf)
        results.append((trace_logits(out, y), out.detach()))
        return cross_entropy(out, y).sum()

    return input_gradient(objective, at), *results[0]


def trace_logits(logits: Tensor, y: Tensor) -> LossTrace:
    """A trace of one point, from logits (N, K) and labels (N,)."""
    logits = logits.detach()
    return LossTrace(cross_entropy(logits, y)[None], margin(logits, y)[None], (logits.argmax(1) != y)[None])


def concat_traces(traces: list[LossTrace]) -> LossTrace:
    """One trace of all points, in order."""
    return LossTrace(*(torch.cat(values) for values in zip(*traces, strict=True)))


@torch.no_grad()
def _output_spread(logits: Logits, x: Tensor, outputs: Tensor, repeats: int) -> float:
    """The largest distance between `outputs` and repeated outputs, as unit vectors."""
    reference = normalize(outputs.flatten(1), dim=1)
    differences = (normalize(logits(x).flatten(1), dim=1) - reference for _ in range(repeats))
    return max((float(each.norm(dim=1).max()) for each in differences), default=0.0) if len(x) else 0.0


def _covers_training_attack(config: AttackConfig, trained: AttackConfig, depth: Depth) -> bool:
    """Whether the many-step attack has the threat model of the training attack and enough steps to replace it."""
    same_threat = config.norm == trained.norm and math.isclose(config.epsilon, trained.epsilon, rel_tol=0.01)
    num_steps = depth.steps(config)
    reach = num_steps * (config.epsilon / 2 if depth.num_steps else config.step_size)
    return same_threat and num_steps > trained.num_steps and num_steps >= 5 and reach >= config.epsilon


def _quarter_step_attack(trained: AttackConfig) -> AttackConfig:
    return replace(trained, num_steps=MANY_STEPS, step_size=trained.epsilon / 4, random_start=True)


@torch.no_grad()
def _trace_ray(logits: Logits, x: Tensor, y: Tensor, grad: Tensor, config: AttackConfig) -> LossTrace:
    step = config.epsilon * steepest_direction(grad, config.norm)
    return concat_traces([trace_logits(logits((x + share * step).clamp(0, 1)), y) for share in EPSILON_SHARES])


def _many_step_attack(config: AttackConfig, depth: Depth) -> AttackConfig:
    if not depth.num_steps:
        return config
    return replace(config, num_steps=depth.num_steps, step_size=config.epsilon / 2, random_start=True)


def _unbounded_attack(config: AttackConfig, steps: int, pixels: int) -> AttackConfig:
    epsilon = UNBOUNDED * (1.0 if config.norm == "Linf" else pixels**0.5)
    return replace(config, epsilon=epsilon, num_steps=steps, step_size=epsilon / 5, random_start=True)
