from __future__ import annotations

import pytest
import torch
from torch import Tensor

from distcond.data.dataset import Augment
from distcond.data.transforms import AugmentDraw, apply_augment, draw_augment
from distcond.seeding import generator


def slow_apply(x: Tensor, draws: AugmentDraw) -> Tensor:
    """Pad, crop and flip, image by image."""
    out = torch.empty_like(x)
    _, height, width, channels = x.shape
    for row, image in enumerate(x):
        canvas = torch.zeros(height + 2 * draws.pad, width + 2 * draws.pad, channels, dtype=x.dtype)
        canvas[draws.pad : draws.pad + height, draws.pad : draws.pad + width] = image
        top, left = draws.shift[row].tolist()
        crop = canvas[top : top + height, left : left + width]
        out[row] = crop.flip(1) if draws.flip[row] else crop
    return out


def images(n: int, height: int, width: int) -> Tensor:
    return torch.randint(256, (n, height, width, 3), dtype=torch.uint8, generator=generator("images"))


@pytest.mark.parametrize("size", [(8, 8), (32, 32), (5, 7)])
@pytest.mark.parametrize("augment", [Augment(4, True), Augment(1, False), Augment(0, True), Augment(2, True)])
def test_the_gather_equals_a_loop(size: tuple[int, int], augment: Augment) -> None:
    x = images(67, *size)
    draws = draw_augment(67, augment, generator("draw"))
    found = apply_augment(x, draws)
    assert found.dtype == torch.uint8
    assert torch.equal(found, slow_apply(x, draws))


def test_no_augmentation_changes_nothing() -> None:
    x = images(9, 8, 8)
    assert torch.equal(apply_augment(x, draw_augment(9, Augment(), generator("draw"))), x)


def test_rank_draws_augment_rank_rows() -> None:
    x, draws = images(67, 8, 8), draw_augment(67, Augment(2, True), generator("draw"))
    whole = apply_augment(x, draws)
    for rank in range(3):
        assert torch.equal(apply_augment(x[rank::3], draws.for_rank(rank, 3)), whole[rank::3])


def test_empty_batches_stay_empty() -> None:
    draws = draw_augment(1, Augment(2, True), generator("draw")).for_rank(1, 2)
    assert apply_augment(images(0, 8, 8), draws).shape == (0, 8, 8, 3)


def test_draws_cover_their_range_evenly() -> None:
    draws = draw_augment(9000, Augment(4, True), generator("draw"))
    counts = torch.stack([torch.bincount(draws.shift[:, axis], minlength=9) for axis in (0, 1)])
    assert counts.shape == (2, 9)
    assert counts.min() > 800
    assert 4200 < int(draws.flip.sum()) < 4800


def test_disabling_flips_keeps_the_shifts() -> None:
    with_flip, without = (draw_augment(50, Augment(4, flip), generator("draw")) for flip in (True, False))
    assert torch.equal(with_flip.shift, without.shift)
    assert not without.flip.any()
