"""Detects random networks, whose logits for the same images differ between calls."""

from __future__ import annotations

import torch
from torch import Tensor

from distcond.attacks.attack import Logits
from distcond.attacks.library import library_class
from distcond.errors import ConfigError

#: Number of images and of calls in a test.
EXAMPLES, TIMES = 8, 5
#: Largest distance between outputs of a deterministic network, as unit vectors: pyautoattack's value; rounding is 1e-6.
TOLERANCE = 1e-4


def is_random(logits: Logits, x: Tensor, y: Tensor) -> bool:
    """Whether outputs differ: by the network's attribute `random` if it has one, else by a test.

    The test calls the network `TIMES` times on the first `EXAMPLES` images of x (N, C, H, W) with labels y (N,).
    """
    declared = getattr(logits, "random", None)
    if isinstance(declared, bool):
        return declared
    return outputs_differ(logits, x, y)


def outputs_differ(logits: Logits, x: Tensor, y: Tensor) -> bool:
    """Test whether outputs differ, with pyautoattack's `check_randomized` if it is installed, else equivalently."""
    x, y = x[:EXAMPLES], y[:EXAMPLES]
    try:
        check = library_class("checks", "check_randomized")
    except ConfigError:
        return output_spread(logits, x) > TOLERANCE
    recorder = _WarningRecorder()
    check(logits, x, y, n=TIMES, alpha=TOLERANCE, logger=recorder)
    return recorder.warned


def random_refusal(name: str) -> str:
    """The error text for an attack that does not support random networks."""
    why = "the attack stops at a prediction that is wrong for one draw only"
    return f"attack={name}: the network is random and {why}; valid: attack=autoattack-rand (with noise=eot or fixed)"


@torch.no_grad()
def output_spread(logits: Logits, x: Tensor, times: int = TIMES) -> float:
    """The largest distance between an image's first output and a later one, as unit vectors."""
    first, *others = (torch.nn.functional.normalize(logits(x).flatten(1), dim=1) for _ in range(times))
    return max(float((other - first).norm(dim=1).max()) for other in others) if len(x) else 0.0


class _WarningRecorder:
    """A logger that records whether a warning was logged."""

    warned = False

    def warning(self, message: str) -> None:
        self.warned = True
