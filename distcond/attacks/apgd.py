"""Auto-PGD (Croce and Hein 2020) on the cross-entropy, on DLR and on targeted DLR, by pyautoattack.

The steps are the library's; restarts and targets are looped over here, because the library's own loop hands back the
clean image where it finds no wrong answer, and what transfers to another network is the point of the highest loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from distcond.attacks.attack import Attack, Logits, protocol, proves
from distcond.attacks.library import LOG, drawing, part
from distcond.attacks.row_losses import cross_entropy
from distcond.config.schema import AttackConfig

#: Targets of the standard protocol: the most likely classes besides the label.
TARGETS = 9


def apgd(
    logits: Logits, x: Tensor, y: Tensor, config: AttackConfig, seed: int, loss: str = "ce", eot_draws: int = 1
) -> Tensor:
    """See `attack.Run`. `loss` is "ce" or "dlr"; gradients are summed over `eot_draws` passes."""
    ascent = _made("APGDAttack", logits, x, config, seed, loss=loss, eot_iter=eot_draws)
    with drawing(seed, x.device):
        return _looped(ascent, x, y, [None] * config.restarts, logits(x) if proves(logits) else None)


def apgd_targeted(logits: Logits, x: Tensor, y: Tensor, config: AttackConfig, seed: int) -> Tensor:
    """See `attack.Run`: towards each of the most likely wrong classes in turn, at most nine."""
    ascent = _made("APGDAttack_targeted", logits, x, config, seed)
    with drawing(seed, x.device):
        clean = logits(x)
        order = clean.sort(dim=1)[1]
        places = range(2, min(TARGETS, order.shape[1] - 1) + 2)
        targets = [order[:, -place] for place in places for _ in range(config.restarts)]
        return _looped(ascent, x, y, targets, clean if proves(logits) else None)


def _made(name: str, logits: Logits, x: Tensor, config: AttackConfig, seed: int, **more: Any) -> Any:
    return part("autopgd_base", name)(
        logits, n_iter=config.num_steps, norm=config.norm, eps=config.epsilon, seed=seed, device=x.device, logger=LOG,
        **more,
    )  # fmt: skip


def _looped(ascent: Any, x: Tensor, y: Tensor, targets: Sequence[Tensor | None], clean: Tensor | None) -> Tensor:
    """The best of x and all runs; an example that a run broke is not attacked again.

    `clean` are the logits of x; None where they are no proof, as of a random network.
    """
    ascent.init_hyperparam(x)
    best, broken = x.clone(), torch.zeros_like(y, dtype=torch.bool)
    score, lost = _unattacked(ascent, y, targets, clean)
    for target in targets:
        rows = torch.nonzero(~broken).squeeze(1)
        if not len(rows):
            break
        ascent.y_target = None if target is None else target[rows]
        highest, right, value, wrong_at = ascent.attack_single_run(x[rows], y[rows])
        wrong = ~right.bool() & (clean is not None)
        found = torch.where(wrong[:, None, None, None], wrong_at, highest)
        better = wrong | (~lost[rows] & (value > score[rows]))
        best[rows[better]], score[rows[better]] = found[better], value[better]
        broken[rows] = wrong
    return best


def _unattacked(
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
