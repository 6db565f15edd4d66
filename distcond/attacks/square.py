"""Square (Andriushchenko et al. 2020), a random search that needs no gradient, by pyautoattack."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from distcond.attacks.attack import Attack, Logits, protocol
from distcond.attacks.library import drawing, part
from distcond.attacks.randomness import is_random
from distcond.attacks.row_losses import margin
from distcond.config.schema import AttackConfig

#: Answers of a random network behind each query, unless told.
DRAWS = 10


def square(logits: Logits, x: Tensor, y: Tensor, config: AttackConfig, seed: int, queries_per_step: int = 1) -> Tensor:
    """See `attack.Run`. `num_steps` counts queries, or in a cascade so many queries each.

    Of a random network each of them is the mean loss over `logits.draws` answers, `DRAWS` where it does not say.
    """
    attack = part("square", "SquareAttack")(
        logits, n_queries=config.num_steps * queries_per_step, eps=config.epsilon, norm=config.norm, p_init=0.8,
        n_restarts=config.restarts, seed=seed, resc_schedule=False, device=x.device,
    )  # fmt: skip
    if is_random(logits, x, y):
        return _by_mean_loss(attack, logits, x, y, config.restarts, seed)
    last: list[tuple[Tensor, Tensor]] = []  # images the newest restart began at, and where it ended
    single = attack.attack_single_run

    def remembered(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        queries, ends = single(images, labels)
        last[:] = [(images, ends)]
        return queries, ends

    attack.attack_single_run = remembered
    with drawing(seed, x.device):
        found: Tensor = attack.perturb(x, y)
    return _with_ends(found, x, *last[0]) if last else found


def _by_mean_loss(attack: Any, logits: Logits, x: Tensor, y: Tensor, restarts: int, seed: int) -> Tensor:
    """The end of the restart with the highest mean loss; no wrong answer ends a search, as it may have been luck."""
    draws = getattr(logits, "draws", DRAWS)

    def mean_margin(images: Tensor, labels: Tensor) -> Tensor:
        # The library goes down: right logit minus the best wrong one.
        return -torch.stack([margin(logits(images), labels) for _ in range(draws)]).mean(0)

    def never_broken(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        loss = mean_margin(images, labels)
        return torch.ones_like(loss), loss

    attack.margin_and_loss = never_broken
    attack.init_hyperparam(x)
    best, lowest = x.clone(), y.new_full(y.shape, torch.inf, dtype=torch.float32)
    with drawing(seed, x.device):
        for _ in range(restarts):
            _, ends = attack.attack_single_run(x, y)
            # Anew: the loss that a point was taken for is the lowest of many, part of it luck.
            loss = mean_margin(ends, y)
            better = loss < lowest
            best[better], lowest[better] = ends[better], loss[better]
    return best


def _with_ends(found: Tensor, x: Tensor, images: Tensor, ends: Tensor) -> Tensor:
    """The library gives back the image itself where it fooled nobody; a transfer needs where it got to."""
    place = {image.tobytes(): row for row, image in enumerate(images.cpu().numpy())}
    unmoved = (found == x).flatten(1).all(1).nonzero().flatten().tolist()
    rows = [(row, place[key]) for row in unmoved if (key := x[row].cpu().numpy().tobytes()) in place]
    found = found.clone()
    for row, end in rows:
        found[row] = ends[end]
    return found


SQUARE = Attack("square", "random search without gradients, 5,000 queries", square, settle=protocol(5000),
                ranks_draws=True)  # fmt: skip
