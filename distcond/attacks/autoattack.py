"""AutoAttack (Croce and Hein 2020) and its parts by pyautoattack: Auto-PGD, targeted FAB, Square, and their ensembles.

Auto-PGD's steps are the library's; restarts and targets are looped over here, because the library's own loop hands back
the clean image where it finds no wrong answer, and what transfers to another network is the point of the highest loss.
FAB gives the image itself where it finds no wrong answer within epsilon. Square (Andriushchenko et al. 2020) needs no
gradient. `num_steps` of an ensemble is that of its gradient attacks; the standard 100 steps go with 5,000 queries of
Square, fewer with fewer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from distcond.attacks.attack import Attack, Logits, is_deterministic, protocol
from distcond.attacks.library import LOG, library_class, number_of_classes, seeded_generators
from distcond.attacks.randomness import is_random, random_refusal
from distcond.attacks.row_losses import cross_entropy, margin
from distcond.attacks.starts import Seeds, joint_seed, normal, uniform
from distcond.config.schema import AttackConfig
from distcond.errors import ConfigError

#: Targets of the standard protocol: the most likely classes besides the label.
TARGETS = 9


def apgd(
    logits: Logits, x: Tensor, y: Tensor, config: AttackConfig, seeds: Seeds, loss: str = "ce", eot_draws: int = 1
) -> Tensor:
    """See `attack.Run`. `loss` is "ce" or "dlr"; gradients are summed over `eot_draws` passes."""
    ascent = _build_apgd("APGDAttack", logits, x, config, loss=loss, eot_iter=eot_draws)
    with seeded_generators(joint_seed(seeds), x.device):
        return _best_of_runs(
            ascent, x, y, seeds, [None] * config.restarts, logits(x) if is_deterministic(logits) else None
        )


def apgd_targeted(logits: Logits, x: Tensor, y: Tensor, config: AttackConfig, seeds: Seeds) -> Tensor:
    """See `attack.Run`: towards each of the most likely wrong classes in turn, at most nine."""
    ascent = _build_apgd("APGDAttack_targeted", logits, x, config)
    with seeded_generators(joint_seed(seeds), x.device):
        clean = logits(x)
        order = clean.sort(dim=1)[1]
        places = range(2, min(TARGETS, order.shape[1] - 1) + 2)
        targets = [order[:, -place] for place in places for _ in range(config.restarts)]
        return _best_of_runs(ascent, x, y, seeds, targets, clean if is_deterministic(logits) else None)


def _build_apgd(name: str, logits: Logits, x: Tensor, config: AttackConfig, **more: Any) -> Any:
    return library_class("autopgd_base", name)(
        logits, n_iter=config.num_steps, norm=config.norm, eps=config.epsilon, device=x.device, logger=LOG,
        **more,
    )  # fmt: skip


def _best_of_runs(
    ascent: Any, x: Tensor, y: Tensor, seeds: Seeds, targets: Sequence[Tensor | None], clean: Tensor | None
) -> Tensor:
    """The best of x and all runs; an example that a run broke is not attacked again.

    Each run has a start of its own, a function of the example's seed and of which run it is. `clean` are the logits of
    x; None where they are no proof, as of a random network.
    """
    ascent.init_hyperparam(x)
    best, broken = x.clone(), torch.zeros_like(y, dtype=torch.bool)
    score, lost = _score_image(ascent, y, targets, clean)
    for number, target in enumerate(targets):
        rows = torch.nonzero(~broken).squeeze(1)
        if not len(rows):
            break
        ascent.y_target = None if target is None else target[rows]
        begin = _start_point(ascent, x[rows], seeds[rows.cpu()] + number)
        highest, right, value, wrong_at = ascent.attack_single_run(x[rows], y[rows], begin)
        wrong = ~right.bool() & (clean is not None)
        found = torch.where(wrong[:, None, None, None], wrong_at, highest)
        better = wrong | (~lost[rows] & (value > score[rows]))
        best[rows[better]], score[rows[better]] = found[better], value[better]
        broken[rows] = wrong
    return best


def _start_point(ascent: Any, x: Tensor, seeds: Seeds) -> Tensor:
    """The library's own random start, on the surface of the ball, drawn for each example by itself."""
    draw = uniform if ascent.norm == "Linf" else normal
    start: Tensor = x + ascent.eps * ascent.normalize(draw(seeds, x))
    return start


def _score_image(
    ascent: Any, y: Tensor, targets: Sequence[Tensor | None], clean: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The highest loss of the image itself towards any target, and where its answer is wrong."""
    if clean is None:
        return torch.full(y.shape, -torch.inf, device=y.device), torch.zeros_like(y, dtype=torch.bool)
    loss = {"ce": cross_entropy, "dlr": ascent.dlr_loss, "dlr-targeted": getattr(ascent, "dlr_loss_targeted", None)}
    found = []
    for target in targets:
        ascent.y_target = target
        found.append(loss[ascent.loss](clean, y))
    return torch.stack(found).amax(0), clean.argmax(1) != y


APGD_CE = Attack("apgd-ce", "Auto-PGD on the cross-entropy, 100 steps, no step size to choose", apgd,
                 settle=protocol(100))  # fmt: skip
APGD_DLR = Attack("apgd-dlr", "Auto-PGD on the difference of logits ratio, 100 steps", partial(apgd, loss="dlr"),
                  settle=protocol(100), min_classes=3)  # fmt: skip
APGD_T = Attack("apgd-t", "Auto-PGD on the targeted DLR loss, nine targets of 100 steps", apgd_targeted,
                settle=protocol(100), min_classes=4)  # fmt: skip


def fab_targeted(logits: Logits, x: Tensor, y: Tensor, config: AttackConfig, seeds: Seeds) -> Tensor:
    """See `attack.Run`: towards each of the most likely wrong classes in turn, at most nine.

    Raises:
        ConfigError: a random network.
    """
    if is_random(logits, x, y):
        raise ConfigError(random_refusal("fab-t"))
    seed = joint_seed(seeds)  # draws are for restarts alone, and for all images at once
    with seeded_generators(seed, x.device):
        targets = min(TARGETS, number_of_classes(logits, x) - 1)
        attack = library_class("fab_pt", "FABAttack_PT")(
            logits, n_restarts=config.restarts, n_iter=config.num_steps, eps=config.epsilon, norm=config.norm,
            seed=seed, targeted=True, n_target_classes=targets, device=x.device,
        )  # fmt: skip
        found: Tensor = attack.perturb(x, y)
        return found


FAB_T = Attack("fab-t", "nearest wrong answer towards nine targets, 100 steps each", fab_targeted,
               settle=protocol(100), refuses_random=True)  # fmt: skip


#: Answers of a random network behind each query, unless told.
DRAWS = 10


def square(
    logits: Logits, x: Tensor, y: Tensor, config: AttackConfig, seeds: Seeds, queries_per_step: int = 1
) -> Tensor:
    """See `attack.Run`. `num_steps` counts queries, or in a cascade so many queries each.

    Of a random network each of them is the mean loss over `logits.draws` answers, `DRAWS` where it does not say.
    """
    seed = joint_seed(seeds)  # one square is tried on all images at once
    attack = library_class("square", "SquareAttack")(
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
    with seeded_generators(seed, x.device):
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
    with seeded_generators(seed, x.device):
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


RAND_DRAWS = 20

STANDARD = Attack(
    "autoattack",
    "AutoAttack, standard: apgd-ce, apgd-t, fab-t, square",
    stages=(APGD_CE, APGD_T, FAB_T, replace(SQUARE, run=partial(square, queries_per_step=50))),
    settle=protocol(100),
    min_classes=4,
    refuses_random=True,
)
RAND = Attack(
    "autoattack-rand",
    f"AutoAttack for random networks: apgd-ce and apgd-dlr, gradients averaged over {RAND_DRAWS} draws",
    stages=(
        replace(APGD_CE, run=partial(apgd, eot_draws=RAND_DRAWS)),
        replace(APGD_DLR, run=partial(apgd, loss="dlr", eot_draws=RAND_DRAWS)),
    ),
    settle=protocol(100),
    eot_draws=RAND_DRAWS,
    min_classes=3,
)
