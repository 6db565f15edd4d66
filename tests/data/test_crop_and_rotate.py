from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from distcond.data.dataset import Arrays, Augment
from distcond.data.sources import CenterCrop, MemorySource, strip_center_crop
from distcond.data.splits import take_subset
from distcond.data.transforms import apply_augment, draw_augment, random_angles, random_boxes, resized_crop, rotate
from distcond.seeding import generator

NO_FLIP = torch.zeros(5, dtype=torch.bool)


def images(n: int = 5, side: int = 16) -> Tensor:
    return torch.randint(256, (n, side, side, 3), dtype=torch.uint8, generator=generator("images"))


def slow_crop(image: np.ndarray, box: list[float], flip: bool, side: int) -> np.ndarray:
    """Bilinear, pixel by pixel, in double precision."""
    size, (top, left, height, width) = len(image), box
    out = np.zeros((side, side, 3))
    for i in range(side):
        for j in range(side):
            row = (top + (i + 0.5) / side * height) * size - 0.5
            column = (left + ((side - 1 - j if flip else j) + 0.5) / side * width) * size - 0.5
            for r in (int(np.floor(row)), int(np.floor(row)) + 1):
                for c in (int(np.floor(column)), int(np.floor(column)) + 1):
                    weight = (1 - abs(row - r)) * (1 - abs(column - c))
                    out[i, j] += weight * image[min(max(r, 0), size - 1), min(max(c, 0), size - 1)]
    return out


def test_the_batched_crop_equals_a_loop() -> None:
    x, box = images(), random_boxes(5, (0.08, 1.0), generator("boxes"))
    flip = torch.tensor([True, False, True, False, True])
    found = resized_crop(x, box, flip, 14)
    assert found.dtype == torch.uint8 and found.shape == (5, 14, 14, 3) and found.is_contiguous()
    for image, one, mirrored, out in zip(x, box, flip, found, strict=True):
        expected = slow_crop(image.numpy(), one.tolist(), bool(mirrored), 14)
        assert np.abs(out.numpy() - expected).max() <= 0.51


def test_a_crop_of_whole_pixels_is_a_slice() -> None:
    x = images()
    assert torch.equal(resized_crop(x, torch.tensor([[0.0, 0.0, 1.0, 1.0]] * 5), NO_FLIP, 16), x)
    box = torch.tensor([[2 / 16, 4 / 16, 8 / 16, 8 / 16]] * 5)
    assert torch.equal(resized_crop(x, box, NO_FLIP, 8), x[:, 2:10, 4:12])
    assert torch.equal(resized_crop(x, box, ~NO_FLIP, 8), x[:, 2:10, 4:12].flip(2))


def test_boxes_are_inside_and_cover_the_range() -> None:
    top, left, height, width = random_boxes(5000, (0.08, 1.0), generator("boxes")).unbind(1)
    for begin, length in ((top, height), (left, width)):
        assert begin.min() >= 0
        assert (begin + length).max() <= 1 + 1e-6
    area, aspect = height * width, width / height
    assert 0.08 <= area.min() < 0.1
    assert area.max() > 0.95
    assert aspect.min() >= 0.7499
    assert aspect.max() <= 1.3334
    # Log-uniform: as often wide as high.
    assert 0.45 < (aspect > 1).float().mean() < 0.55


def test_crops_that_never_fit_take_complete_images() -> None:
    box = random_boxes(2000, (1.0, 1.0), generator("boxes"))
    assert (box[:, 2:] <= 1).all()
    assert (box == torch.tensor([0.0, 0.0, 1.0, 1.0])).all(1).float().mean() > 0.99


def test_quarter_turns_are_exact() -> None:
    x = images()
    for turns in range(4):
        assert torch.equal(rotate(x, torch.full((5,), 90.0 * turns)), torch.rot90(x, turns, (1, 2)))


def test_rotation_equals_pillows() -> None:
    image = pytest.importorskip("PIL.Image")
    x = images(5, 32)
    degrees = torch.tensor([-15.0, -3.3, 0.0, 7.7, 15.0])
    for one, angle, found in zip(x, degrees, rotate(x, degrees), strict=True):
        expected = np.asarray(image.fromarray(one.numpy()).rotate(float(angle), image.Resampling.NEAREST))
        # They may round a coordinate that lies between two pixels differently.
        assert (found.numpy() == expected).all(-1).mean() > 0.97
        assert (found.numpy()[0, 0] == 0).all() == (expected[0, 0] == 0).all()


def test_angles_cover_their_range() -> None:
    found = random_angles(5000, 15.0, generator("angles"))
    assert -15 <= found.min() < -14.5
    assert 14.5 < found.max() <= 15


@pytest.mark.parametrize("augment", [Augment(4, True, 15.0), Augment(0, True, 15.0, (0.3, 0.9))])
def test_rank_draws_augment_rank_rows(augment: Augment) -> None:
    x, draws = images(67), draw_augment(67, augment, generator("draw"))
    everything = apply_augment(x, draws, 12)
    assert everything.shape == (67, 12, 12, 3) if augment.crop else (67, 16, 16, 3)
    for rank in range(3):
        assert torch.equal(apply_augment(x[rank::3], draws.for_rank(rank, 3), 12), everything[rank::3])
    none = draw_augment(1, augment, generator("draw")).for_rank(1, 2)
    assert len(apply_augment(images(0), none, 12)) == 0


def test_rotation_does_not_change_other_draws() -> None:
    plain, turned = (draw_augment(50, Augment(4, True, degrees), generator("draw")) for degrees in (0.0, 15.0))
    assert torch.equal(plain.shift, turned.shift)
    assert torch.equal(plain.flip, turned.flip)
    assert plain.angle is None
    assert turned.angle is not None


def test_center_crop_reads_the_centre() -> None:
    x = images(20)
    source = CenterCrop(MemorySource(Arrays(x.numpy(), np.arange(20))), 10)
    assert (len(source), source.image_size) == (20, 10)
    (found, y), *_ = source.read([np.array([3, 5])])
    assert torch.equal(found, x[[3, 5], 3:13, 3:13])
    assert y.tolist() == [3, 5]
    few = take_subset(source, 7)
    assert (len(few), few.image_size, len(few.labels)) == (7, 10, 7)
    assert (len(strip_center_crop(few)), strip_center_crop(few).image_size) == (7, 16)
