"""Which images a subset of N takes."""

from __future__ import annotations

import numpy as np
import pytest

from distcond.data.dataset import Arrays
from distcond.data.sources import CenterCrop, MemorySource
from distcond.data.splits import (
    budget_rows,
    image_set_digest,
    is_sorted_by_class,
    split_digest,
    stratified_order,
    take_subset,
)

SORTED = np.repeat(np.arange(10), 50)
"""Labels as class folders store them."""


def source(labels: np.ndarray, seed: int = 0) -> MemorySource:
    images = np.random.default_rng(seed).integers(0, 256, (len(labels), 4, 4, 3), dtype=np.uint8)
    return MemorySource(Arrays(images, labels.astype(np.int64)))


@pytest.mark.parametrize("count", [10, 60, 80, 250, 499])
def test_a_budget_takes_every_class_equally(count: int) -> None:
    counts = np.bincount(SORTED[budget_rows(source(SORTED), count)], minlength=10)
    assert counts.sum() == count
    assert counts.max() - counts.min() <= 1


def test_unequal_classes_come_in_proportion() -> None:
    labels = np.repeat(np.arange(4), [1000, 300, 60, 3])
    for count in (4, 5, 20, 100, 700):
        counts = np.bincount(labels[stratified_order(labels)[:count]], minlength=4)
        quotas = count * np.bincount(labels) / len(labels)
        assert counts.min() >= 1, count
        assert np.abs(counts - quotas).max() < 4 if count < 20 else np.abs(counts - np.maximum(quotas, 1)).max() < 1.5


def test_a_larger_budget_contains_a_smaller() -> None:
    held: set[int] = set()
    for count in (1, 7, 10, 11, 60, 499, 500):
        rows = budget_rows(source(SORTED), count).tolist()
        assert len(set(rows)) == count
        assert held <= set(rows)
        held = set(rows)


@pytest.mark.parametrize("count", [0, 500, 501])
def test_the_whole_split_keeps_its_order(count: int) -> None:
    assert budget_rows(source(SORTED), count).tolist() == list(range(500))
    assert len(take_subset(source(SORTED), count)) == 500


def test_the_order_never_changes() -> None:
    assert stratified_order(np.repeat(np.arange(3), 4)).tolist() == [11, 3, 4, 8, 6, 0, 9, 1, 5, 2, 7, 10]
    assert stratified_order(SORTED[::-1])[:20].tolist() != stratified_order(SORTED)[:20].tolist()


def test_a_subset_reads_its_own_images() -> None:
    whole = source(SORTED)
    for few, seen in ((take_subset(whole, 30), whole), (take_subset(CenterCrop(whole, 2), 30), CenterCrop(whole, 2))):
        rows = budget_rows(whole, 30)
        ((x, y),) = few.read([np.array([3, 0])])
        ((wanted, labels),) = seen.read([rows[[3, 0]]])
        assert np.array_equal(x.numpy(), wanted.numpy())
        assert y.tolist() == labels.tolist() == few.labels[[3, 0]].tolist()


def test_image_set_digests_depend_on_content() -> None:
    one, rows = split_digest(source(SORTED)), budget_rows(source(SORTED), 60)
    assert one == split_digest(source(SORTED))
    assert one != split_digest(source(SORTED, seed=1))
    assert one != split_digest(source(SORTED[::-1]))
    assert image_set_digest(one, rows) == image_set_digest(one, rows[::-1])
    names = {
        image_set_digest(one, rows),
        image_set_digest(one, np.arange(60)),
        image_set_digest(one, np.arange(500)),
        image_set_digest("0", rows),
    }
    assert len(names) == 4


def test_sorted_classes_are_detected() -> None:
    mixed = np.random.default_rng(0).permutation(SORTED)
    assert is_sorted_by_class(SORTED) and is_sorted_by_class(SORTED[::-1]) and is_sorted_by_class(np.repeat(mixed, 4))
    assert not is_sorted_by_class(mixed) and not is_sorted_by_class(np.tile(np.arange(10), 5))
