"""CutMix: the box and the label shares by hand, the same box on every rank, a function of the seed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from distcond.data.dataset import Arrays, Augment
from distcond.data.loader import Batch, Loader
from distcond.data.sources import MemorySource
from distcond.data.transforms import CutMix
from distcond.seeding import generator

MIX = CutMix(1.0, 10)


def flat(n: int = 5, height: int = 8, width: int = 12) -> tuple[Tensor, Tensor]:
    """Images whose every pixel is their label."""
    y = torch.arange(n)
    return y.float()[:, None, None, None].expand(n, 3, height, width).contiguous(memory_format=torch.channels_last), y


@pytest.mark.parametrize("seed", range(20))
def test_labels_mix_by_box_area(seed: int) -> None:
    x, y = flat()
    mixed, shares = MIX(x, y, generator(seed))
    other = (y + len(y) - 1) % len(y)
    for row in range(len(y)):
        for label in {int(y[row]), int(other[row])}:
            assert float(shares[row, label]) == pytest.approx(float((mixed[row, 0] == label).float().mean()))
    assert torch.allclose(shares.sum(1), torch.ones(len(y)))
    assert mixed.is_contiguous(memory_format=torch.channels_last)


def test_the_box_is_one_rectangle_from_another_image() -> None:
    x, y = flat()
    boxes = set()
    for seed in range(50):
        taken = MIX(x, y, generator(seed))[0][1, 0] == 0
        rows, columns = taken.any(1).nonzero().flatten(), taken.any(0).nonzero().flatten()
        if len(rows):
            assert taken[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
            assert int(taken.sum()) == len(rows) * len(columns)
            boxes.add((int(rows[0]), int(columns[0]), len(rows), len(columns)))
    assert len(boxes) > 30


def test_the_area_follows_beta() -> None:
    # Boxes are cut off at the border, so shares are at least r: r near 1 stays near 1, and none falls below r.
    x, y = flat(2, 64, 64)

    def kept(alpha: float) -> np.ndarray:
        return np.array([float(CutMix(alpha, 2)(x, y, generator(seed))[1][0, 0]) for seed in range(400)])

    ends, anywhere, middle = (kept(alpha) for alpha in (0.3, 1.0, 1000.0))
    assert np.mean(ends > 0.95) == pytest.approx(0.24, abs=0.08)  # 1 - I(0.95; 0.3, 0.3), and boxes below a pixel
    assert np.mean(anywhere > 0.95) == pytest.approx(0.07, abs=0.05)
    assert middle.min() > 0.4


def batches(rank: int = 0, world: int = 1, cutmix: CutMix | None = MIX, seed: int = 0) -> list[Batch]:
    rng = np.random.default_rng(0)
    arrays = Arrays(rng.integers(0, 256, (64, 8, 8, 3), dtype=np.uint8), rng.integers(0, 10, 64))
    loader = Loader(
        MemorySource(arrays), 16, seed, rank, world, augment=Augment(1), shuffle=True, drop_last=True, cutmix=cutmix
    )
    return list(loader.epoch(2))


def test_the_loader_mixes_augmented_images() -> None:
    for mixed, plain in zip(batches(), batches(cutmix=None), strict=True):
        x, y = MIX(plain.x, plain.y, generator(0, "cutmix", 2, plain.step))
        assert torch.equal(mixed.x, x)
        assert torch.equal(mixed.y, y)
    assert torch.equal(batches()[1].x, batches()[1].x)
    assert not torch.equal(batches()[1].x, batches(seed=1)[1].x)


def test_ranks_cut_the_same_box() -> None:
    alone = batches(cutmix=None)
    for rank in (0, 1):
        for mixed, plain in zip(batches(rank, 2), alone, strict=True):
            x, _ = MIX(plain.x[rank::2], plain.y[rank::2], generator(0, "cutmix", 2, plain.step))
            assert torch.equal(mixed.x, x)
