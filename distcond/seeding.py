"""Keyed randomness: every random draw is a function of its purpose, not of earlier draws.

A key such as `(run seed, "order", epoch)` names one stream. Streams of different keys are independent. Streams carry no
state from step to step, so a resumed run draws exactly what the uninterrupted run would have drawn.
"""

from __future__ import annotations

import hashlib

import torch


def key(*parts: object) -> int:
    """Return the 63-bit seed named by `parts`: the same on every machine, Python version and rank.

    Parts are compared by their `repr`, so use values whose repr is their content: int, str, bool, float, and tuples of
    these. (`1`, `1.0`, `"1"` and `True` are four different parts.)
    """
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(*parts: object, device: str | torch.device = "cpu") -> torch.Generator:
    """Return a fresh generator on `device`, seeded by `key(*parts)`.

    CPU and GPU streams of the same seed differ: a draw is reproducible on one kind of device, not across kinds.
    """
    return torch.Generator(device=device).manual_seed(key(*parts))
