"""A black-box attack: random search over squares of one colour, in the spirit of Square (Andriushchenko et al. 2020).

It asks for logits alone, so masked gradients do not hinder it. Weaker than Square with its 5,000 queries; needs no
library.
"""

from __future__ import annotations

import torch
from torch import Tensor

from distcond.attacks.attack import Logits
from distcond.attacks.projection import project
from distcond.attacks.row_losses import margin
from distcond.seeding import generator

#: Share of the image that the first squares cover; it shrinks with the queries to the last.
FIRST, LAST = 0.5, 0.02


@torch.no_grad()
def random_search(logits: Logits, x: Tensor, y: Tensor, norm: str, epsilon: float, queries: int, seed: int) -> Tensor:
    """Which of the images x (N, C, H, W) it breaks, (N,) bool, within `queries` forward passes."""
    source = generator(seed, "random search")
    at = project(x + _stripes(x, norm, epsilon, source), x, norm, epsilon)
    best = margin(logits(at), y)
    for query in range(1, queries):
        tried = project(at + _squares(x, norm, epsilon, query / queries, source), x, norm, epsilon)
        value = margin(logits(tried), y)
        better = value > best
        at = torch.where(better[:, None, None, None], tried, at)
        best = torch.where(better, value, best)
    return best > 0


def _stripes(x: Tensor, norm: str, epsilon: float, source: torch.Generator) -> Tensor:
    """One sign per image, channel and column, at the rim of the ball."""
    signs = _signs((*x.shape[:2], 1, x.shape[3]), source).expand(x.shape).to(x.device)
    return signs * _height(x, norm, epsilon, x.shape[1:].numel())


def _squares(x: Tensor, norm: str, epsilon: float, done: float, source: torch.Generator) -> Tensor:
    """One square per image, at a place of its own, with one sign per channel; twice the rim, so that it gets there."""
    size = x.shape[-1]
    side = max(1, round(size * (FIRST * (1 - done) + LAST * done) ** 0.5))
    corner = torch.randint(0, size - side + 1, (len(x), 2, 1, 1), generator=source)
    rows, columns = torch.arange(size)[None, :, None], torch.arange(size)[None, None, :]
    inside = (rows >= corner[:, 0]) & (rows < corner[:, 0] + side)
    inside = inside & (columns >= corner[:, 1]) & (columns < corner[:, 1] + side)
    signs = _signs((*x.shape[:2], 1, 1), source)
    return (signs * inside[:, None]).to(x) * (2 * _height(x, norm, epsilon, x.shape[1] * side * side))


def _signs(shape: tuple[int, ...], source: torch.Generator) -> Tensor:
    return torch.randint(0, 2, shape, generator=source).float() * 2 - 1


def _height(x: Tensor, norm: str, epsilon: float, pixels: int) -> float:
    """How high `pixels` pixels stand that reach the rim of the ball together."""
    return epsilon if norm == "Linf" else epsilon / pixels**0.5
