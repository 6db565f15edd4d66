"""Keyed randomness: every random draw is a function of what it is for, never of what was drawn before it.

A key such as `(run seed, "order", epoch)` names one stream. Two streams with different keys are independent, and a
resumed run redraws exactly what the uninterrupted run would have drawn, because no stream carries state across steps.
"""

from __future__ import annotations

import hashlib

import torch


def key(*parts: object) -> int:
    """Return the 63-bit seed named by `parts`: the same on every machine, Python version and rank.

    Parts are told apart by their `repr`, so use values whose repr is their content: int, str, bool, float, tuples of
    these. (`1`, `1.0`, `"1"` and `True` are four different parts.)
    """
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(*parts: object, device: str | torch.device = "cpu") -> torch.Generator:
    """Return a fresh generator on `device`, seeded by `key(*parts)`.

    The CPU's and a GPU's streams differ for one seed: a draw is reproducible on one kind of device, not across kinds.
    """
    return torch.Generator(device=device).manual_seed(key(*parts))
