from __future__ import annotations

import pytest
import torch

from distcond import seeding


def test_keys_are_fixed_numbers_of_63_bits() -> None:
    # Pinned: another hash would silently change every run resumed from an old checkpoint. A hash that depended on the
    # process would fail here, too.
    assert seeding.key(0, "order", 3) == 8244215730568551301
    assert all(0 <= seeding.key(i) < 2**63 for i in range(100))


@pytest.mark.parametrize("other", [(1, 2), (2, 1), ("1", 2), (1.0, 2), (True, 2), (12,), ((1, 2),), (1, 2, 0)])
def test_different_parts_name_different_streams(other: tuple[object, ...]) -> None:
    keys = {seeding.key(1, 2), seeding.key(*other)}
    assert len(keys) == (1 if repr(other) == repr((1, 2)) else 2)


def test_generators_repeat_by_key_without_global_state() -> None:
    before = torch.get_rng_state()
    first = torch.rand(5, generator=seeding.generator(7, "augment"))
    again = torch.rand(5, generator=seeding.generator(7, "augment"))
    other = torch.rand(5, generator=seeding.generator(8, "augment"))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(before, torch.get_rng_state())
