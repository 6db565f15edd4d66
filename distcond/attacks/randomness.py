"""Whether a network answers the same question differently, whatever makes it do so."""

from __future__ import annotations

import torch
from torch import Tensor

from distcond.attacks.attack import Logits
from distcond.attacks.library import part
from distcond.errors import ConfigError

#: Images that are asked about, and how often.
EXAMPLES, TIMES = 8, 5
#: How far two answers may lie apart, as vectors of unit length: rounding differs by 1e-6. The library's value.
TOLERANCE = 1e-4


def is_random(logits: Logits, x: Tensor, y: Tensor) -> bool:
    """Whether answers differ: as the network's maker says by its attribute `random`, else by asking.

    Asks `TIMES` times about the first `EXAMPLES` of the images x (N, C, H, W) with labels y (N,).
    """
    known = getattr(logits, "random", None)
    if isinstance(known, bool):
        return known
    return answers_differ(logits, x, y)


def answers_differ(logits: Logits, x: Tensor, y: Tensor) -> bool:
    """Ask, by pyautoattack's `check_randomized` where it is installed, else in the same way."""
    x, y = x[:EXAMPLES], y[:EXAMPLES]
    try:
        check = part("checks", "check_randomized")
    except ConfigError:
        return answers_spread(logits, x) > TOLERANCE
    heard = _Heard()
    check(logits, x, y, n=TIMES, alpha=TOLERANCE, logger=heard)
    return heard.warned


def random_refusal(name: str) -> str:
    """Why an attack is not made on a random network, and what to ask for."""
    why = "it stops at an answer that was wrong by one draw"
    return f"attack={name}: the network is random and {why}; valid: attack=autoattack-rand (with noise=eot or fixed)"


@torch.no_grad()
def answers_spread(logits: Logits, x: Tensor, times: int = TIMES) -> float:
    """The largest distance between an image's first answer and a later one, as vectors of unit length."""
    first, *others = (torch.nn.functional.normalize(logits(x).flatten(1), dim=1) for _ in range(times))
    return max(float((other - first).norm(dim=1).max()) for other in others) if len(x) else 0.0


class _Heard:
    """A logger that notes whether it was warned."""

    warned = False

    def warning(self, message: str) -> None:
        self.warned = True
