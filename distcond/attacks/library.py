"""pyautoattack: APGD, FAB and Square as their authors wrote them. Imported here only.

The library seeds and draws from torch's global generators; `seeded_generators` seeds them and restores their state.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from distcond.attacks.attack import Logits
from distcond.errors import ConfigError

#: The library logs zero gradients at every step; the gradient masking checks report them once.
LOG = logging.getLogger("distcond.attacks.library")
LOG.addHandler(logging.NullHandler())
LOG.propagate = False


def library_class(module: str, name: str) -> Any:
    """One of the library's classes.

    Raises:
        ConfigError: the library is not installed.
    """
    try:
        return getattr(import_module(f"pyautoattack.{module}"), name)
    except ImportError as error:
        raise ConfigError(
            "this attack needs pyautoattack: pip install 'distcond[attacks]'; without it: fgsm, pgd, cw"
        ) from error


@contextmanager
def seeded_generators(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's global generators within the block; their state is restored afterwards."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), torch.no_grad():
        torch.manual_seed(seed)
        yield


def number_of_classes(logits: Logits, x: Tensor) -> int:
    """K, from the logits of one image."""
    with torch.no_grad():
        return logits(x[:1]).shape[1]
