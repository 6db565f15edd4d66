"""A cascade of attacks on one block: what a cheap stage breaks, no expensive one is asked about."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from distcond.attacks.attack import Attack, Logits, is_deterministic
from distcond.attacks.projection import perturbation_norms
from distcond.attacks.row_losses import cross_entropy
from distcond.attacks.starts import Seeds
from distcond.config.schema import AttackConfig
from distcond.errors import ConfigError
from distcond.evaluation.outcomes import ROBUST, WRONG
from distcond.operating_point import OperatingPoint

#: An attacked image may leave [0, 1] or a ball by so much, from rounding. Of a pixel that is 2 ** -25, and once more to
#: measure it; an L2 length adds up that of all pixels, sqrt(pixels) times as much: 1.7e-6 for 3x32x32.
SLACK = {"Linf": 1e-6, "L2": 1e-5}


class Candidate(NamedTuple):
    """One candidate for every image: the number of the stage, the stage, what it uses and what it draws from."""

    number: int
    stage: Attack
    config: AttackConfig
    seeds: Seeds


@torch.no_grad()
def adaptive(
    attacker: Logits,
    target: Logits,
    x: Tensor,
    y: Tensor,
    right: Tensor,
    attack: Attack,
    config: AttackConfig,
    seeds: Seeds,
    losses: Tensor | None = None,
    surrogate: bool = False,
) -> Tensor:
    """`broken_by` (N,) int8 of the images x (N, C, H, W), of which `right` (N,) are right without attack.

    Args:
        attacker: the network that the attack asks.
        target: the network whose answers count.
        seeds: of each example, (N,) (`distcond.attacks.starts`).
        losses: where given, (N,), every image is attacked, right or not, and this filled with the target's
            cross-entropy at the last candidate of each.
        surrogate: the attacker is another network than the target, whose answers it therefore does not know.
    """
    found = start(right)
    for number, stage, once, drawn in _candidates(
        attack, config, seeds, by_restart=surrogate or not is_deterministic(attacker)
    ):
        asked = found == ROBUST if losses is None else torch.ones_like(right)
        rows = torch.nonzero(asked).squeeze(1)
        if not len(rows):
            break
        logits = target(_moved(stage, attacker, x[rows], y[rows], once, drawn[rows.cpu()]))
        if losses is not None:
            losses.copy_(cross_entropy(logits, y))
        broken = (logits.argmax(1) != y[rows]) & (found[rows] == ROBUST)
        found[rows[broken]] = number
    return found


@torch.no_grad()
def transfer(
    attacker: Logits, targets: Mapping[OperatingPoint, Logits], x: Tensor, y: Tensor,
    right: Mapping[OperatingPoint, Tensor], attack: Attack, config: AttackConfig, seeds: Seeds,
) -> dict[OperatingPoint, Tensor]:  # fmt: skip
    """`broken_by` at each target's point of attacks optimised against another network, each stage on every image.

    Every image, because what no longer fools the attacker's network may still fool a target, and so that what is found
    does not depend on which targets are asked.
    """
    found = {point: start(right[point]) for point in targets}
    for number, stage, once, drawn in _candidates(attack, config, seeds, by_restart=True):
        if not any((values == ROBUST).any() for values in found.values()):
            break
        moved = _moved(stage, attacker, x, y, once, drawn)
        for point, target in targets.items():
            rows = torch.nonzero(found[point] == ROBUST).squeeze(1)
            if len(rows):
                found[point][rows[target(moved[rows]).argmax(1) != y[rows]]] = number
    return found


def start(right: Tensor) -> Tensor:
    """`broken_by` before any attack."""
    return torch.where(right, ROBUST, WRONG).to(torch.int8)


def _candidates(attack: Attack, config: AttackConfig, seeds: Seeds, by_restart: bool) -> Iterator[Candidate]:
    """What the target is asked about, one after the other: the stages, or each restart of a stage by itself.

    By restart where only the target can say what one was worth: where the attacker saw the image under draws of its
    own, or asked another network, whose wrong answer would end the search while the target is still right.
    """
    restarts = config.restarts if by_restart else 1
    once = replace(config, restarts=1) if by_restart else config
    for number, stage in enumerate(attack.cascade, 1):
        for restart in range(restarts):
            yield Candidate(number, stage, once, seeds + restart)


def _moved(stage: Attack, attacker: Logits, x: Tensor, y: Tensor, config: AttackConfig, seeds: Seeds) -> Tensor:
    assert stage.run is not None
    moved = stage.run(attacker, x, y, config, seeds).detach()
    outside = max(-float(moved.min()), float(moved.max()) - 1)
    beyond = float((perturbation_norms(moved - x, config.norm) - config.epsilon).max())
    if not (outside <= SLACK["Linf"] and beyond <= SLACK[config.norm]):  # also where one is not a number
        raise ConfigError(
            f"attack {stage.name}: left the {config.norm} ball of {config.epsilon:g} by {beyond:.2g}, [0, 1] by "
            f"{outside:.2g}; an attack has to stay within both"
        )
    return moved
