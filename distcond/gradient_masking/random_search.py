"""A black-box attack by random search over squares of one colour, similar to Square (Andriushchenko et al. 2020).

It uses logits only, so masked gradients do not affect it. Weaker than Square with 5,000 queries, but needs no library.
"""

from __future__ import annotations

import torch
from torch import Tensor

from distcond.attacks.attack import Logits
from distcond.attacks.projection import project
from distcond.attacks.row_losses import margin
from distcond.seeding import generator

#: Share of the image that a square covers, from the first query to the last.
FIRST_AREA, LAST_AREA = 0.5, 0.02


@torch.no_grad()
def random_search(logits: Logits, x: Tensor, y: Tensor, norm: str, epsilon: float, queries: int, seed: int) -> Tensor:
    """Which of the images x (N, C, H, W) it breaks, (N,) bool, within `queries` forward passes."""
    rng = generator(seed, "random search")
    x_adv = project(x + _stripes(x, norm, epsilon, rng), x, norm, epsilon)
    best = margin(logits(x_adv), y)
    for query in range(1, queries):
        candidate = project(x_adv + _squares(x, norm, epsilon, query / queries, rng), x, norm, epsilon)
        value = margin(logits(candidate), y)
        better = value > best
        x_adv = torch.where(better[:, None, None, None], candidate, x_adv)
        best = torch.where(better, value, best)
    return best > 0


def _stripes(x: Tensor, norm: str, epsilon: float, rng: torch.Generator) -> Tensor:
    """Perturbations of length epsilon with one sign per image, channel and column."""
    signs = _random_signs((*x.shape[:2], 1, x.shape[3]), rng).expand(x.shape).to(x.device)
    return signs * _amplitude(norm, epsilon, x.shape[1:].numel())


def _squares(x: Tensor, norm: str, epsilon: float, done: float, rng: torch.Generator) -> Tensor:
    """One square per image at a random position, with one sign per channel; length 2 epsilon, to flip the sign."""
    size = x.shape[-1]
    side = max(1, round(size * (FIRST_AREA * (1 - done) + LAST_AREA * done) ** 0.5))
    corner = torch.randint(0, size - side + 1, (len(x), 2, 1, 1), generator=rng)
    rows, columns = torch.arange(size)[None, :, None], torch.arange(size)[None, None, :]
    inside = (rows >= corner[:, 0]) & (rows < corner[:, 0] + side)
    inside = inside & (columns >= corner[:, 1]) & (columns < corner[:, 1] + side)
    signs = _random_signs((*x.shape[:2], 1, 1), rng)
    return (signs * inside[:, None]).to(x) * (2 * _amplitude(norm, epsilon, x.shape[1] * side * side))


def _random_signs(shape: tuple[int, ...], rng: torch.Generator) -> Tensor:
    return torch.randint(0, 2, shape, generator=rng).float() * 2 - 1


def _amplitude(norm: str, epsilon: float, num_values: int) -> float:
    """The change per value of a perturbation of length epsilon that changes `num_values` values equally."""
    return epsilon if norm == "Linf" else epsilon / num_values**0.5
