"""A cascade of attacks on one block: what a cheap stage breaks, no dear one is asked about."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from distcond.attacks.attack import Attack, Logits, proves
from distcond.attacks.projection import distances
from distcond.config.schema import AttackConfig
from distcond.engine.campaign.outcomes import ROBUST, WRONG
from distcond.errors import ConfigError
from distcond.operating_point import OperatingPoint
from distcond.seeding import key

#: An attacked image may leave [0, 1] or a ball by so much, from rounding. Of a pixel that is 2 ** -25, and once more to
#: measure it; an L2 length adds up that of all pixels, sqrt(pixels) times as much: 1.7e-6 for 3x32x32.
SLACK = {"Linf": 1e-6, "L2": 1e-5}


class Try(NamedTuple):
    """One candidate for every image: the number of the stage, the stage, what it uses and what it draws from."""

    number: int
    stage: Attack
    config: AttackConfig
    seed: int


@torch.no_grad()
def adaptive(
    attacker: Logits,
    judge: Logits,
    x: Tensor,
    y: Tensor,
    right: Tensor,
    attack: Attack,
    config: AttackConfig,
    seed: int,
) -> Tensor:
    """`broken_by` (N,) int8 of the images x (N, C, H, W), of which `right` (N,) are right without attack."""
    found = start(right)
    for number, stage, once, drawn in _tries(attack, attacker, config, seed):
        rows = torch.nonzero(found == ROBUST).squeeze(1)
        if not len(rows):
            break
        moved = _moved(stage, attacker, x[rows], y[rows], once, drawn)
        found[rows[judge(moved).argmax(1) != y[rows]]] = number
    return found


@torch.no_grad()
def transfer(
    attacker: Logits, judges: Mapping[OperatingPoint, Logits], x: Tensor, y: Tensor,
    right: Mapping[OperatingPoint, Tensor], attack: Attack, config: AttackConfig, seed: int,
) -> dict[OperatingPoint, Tensor]:  # fmt: skip
    """`broken_by` at each judge's point of attacks optimised against another network, each stage on every image.

    Every image, because what no longer fools the attacker's network may still fool a judge, and so that what is found
    does not depend on which judges are asked.
    """
    found = {point: start(right[point]) for point in judges}
    for number, stage, once, drawn in _tries(attack, attacker, config, seed):
        if not any((values == ROBUST).any() for values in found.values()):
            break
        moved = _moved(stage, attacker, x, y, once, drawn)
        for point, judge in judges.items():
            rows = torch.nonzero(found[point] == ROBUST).squeeze(1)
            if len(rows):
                found[point][rows[judge(moved[rows]).argmax(1) != y[rows]]] = number
    return found


def start(right: Tensor) -> Tensor:
    """`broken_by` before any attack."""
    return torch.where(right, ROBUST, WRONG).to(torch.int8)


def _tries(attack: Attack, attacker: Logits, config: AttackConfig, seed: int) -> Iterator[Try]:
    """What the judge is asked about, one after the other: the stages, of a random network each restart by itself.

    Only the judge can say what a restart was worth there: the attacker saw the image under draws of its own.
    """
    restarts = 1 if proves(attacker) else config.restarts
    once = config if proves(attacker) else replace(config, restarts=1)
    for number, stage in enumerate(attack.cascade, 1):
        for restart in range(restarts):
            yield Try(number, stage, once, key(seed, "restart", restart) if restart else seed)


def _moved(stage: Attack, attacker: Logits, x: Tensor, y: Tensor, config: AttackConfig, seed: int) -> Tensor:
    assert stage.run is not None
    moved = stage.run(attacker, x, y, config, seed).detach()
    outside = max(-float(moved.min()), float(moved.max()) - 1)
    beyond = float((distances(moved - x, config.norm) - config.epsilon).max())
    if not (outside <= SLACK["Linf"] and beyond <= SLACK[config.norm]):  # also where one is not a number
        raise ConfigError(
            f"attack {stage.name}: left the {config.norm} ball of {config.epsilon:g} by {beyond:.2g}, [0, 1] by "
            f"{outside:.2g}; an attack has to stay within both"
        )
    return moved
