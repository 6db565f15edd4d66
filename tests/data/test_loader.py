from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from distcond.data.dataset import Arrays, Augment
from distcond.data.ffcv.source import FfcvSource
from distcond.data.loader import Batch, Loader
from distcond.data.sources import MemorySource, Source

Make = Callable[..., Any]
BOTH = pytest.mark.parametrize("kind", ["memory", "ffcv"])


def train(source: Source, batch_size: int = 64, rank: int = 0, world: int = 1, seed: int = 3) -> Loader:
    return Loader(source, batch_size, seed, rank, world, augment=Augment(2, True), shuffle=True)


def assert_same(found: list[Batch], expected: list[Batch]) -> None:
    assert [batch.step for batch in found] == [batch.step for batch in expected]
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours.x, theirs.x)
        assert torch.equal(ours.y, theirs.y)


@pytest.mark.parametrize("size", [8, 32])
def test_both_sources_give_the_same_bits(make_source: Make, make_arrays: Make, size: int) -> None:
    arrays = make_arrays(1003, size)
    memory, ffcv = (train(make_source(kind, arrays)) for kind in ("memory", "ffcv"))
    for epoch in range(3):
        assert_same(list(ffcv.epoch(epoch)), list(memory.epoch(epoch)))


@BOTH
def test_batches_are_channels_last_floats(make_source: Make, make_arrays: Make, kind: str) -> None:
    arrays: Arrays = make_arrays(100)
    batches = list(Loader(make_source(kind, arrays), 32).epoch(0))
    x, y = torch.cat([batch.x for batch in batches]), torch.cat([batch.y for batch in batches])
    assert torch.equal(x, torch.from_numpy(arrays.images).permute(0, 3, 1, 2).float() / 255)
    assert torch.equal(y, torch.from_numpy(arrays.labels))
    assert [len(batch.y) for batch in batches] == [32, 32, 32, 4]
    assert batches[0].x.dtype == torch.float32
    assert batches[0].x.is_contiguous(memory_format=torch.channels_last)


@BOTH
@pytest.mark.parametrize("world", [2, 3])
def test_ranks_interleave_to_one_processs_batches(make_source: Make, make_arrays: Make, kind: str, world: int) -> None:
    source = make_source(kind, make_arrays(1003))
    alone = list(train(source).epoch(1))
    ranks = [list(train(source, rank=rank, world=world).epoch(1)) for rank in range(world)]
    for rank, batches in enumerate(ranks):
        assert_same(batches, [Batch(b.step, b.x[rank::world], b.y[rank::world]) for b in alone])
    assert sorted(int(y) for batches in ranks for batch in batches for y in batch.y) == list(range(1003))


@BOTH
@pytest.mark.parametrize("start", [1, 9, 15, 16])
def test_a_restart_gives_the_tail(make_source: Make, make_arrays: Make, kind: str, start: int) -> None:
    loader = train(make_source(kind, make_arrays(1003)))
    assert_same(list(loader.epoch(2, start)), list(loader.epoch(2))[start:])


@BOTH
def test_epochs_and_seeds_differ(make_source: Make, make_arrays: Make, kind: str) -> None:
    source = make_source(kind, make_arrays(200))
    first = next(iter(train(source).epoch(0)))
    assert torch.equal(first.x, next(iter(train(source).epoch(0))).x)
    for other in (train(source).epoch(1), train(source, seed=4).epoch(0)):
        assert not torch.equal(first.y, next(other).y)


@BOTH
def test_a_rank_without_rows_gets_empty_batches(make_source: Make, make_arrays: Make, kind: str) -> None:
    source = make_source(kind, make_arrays(513))
    batches = list(train(source, 512, rank=1, world=2).epoch(0))
    assert [batch.x.shape for batch in batches] == [(256, 3, 8, 8), (0, 3, 8, 8)]
    assert batches[1].y.dtype == torch.int64
    (only,) = train(source, 512, rank=1, world=2).epoch(0, start=1)
    assert only.x.shape == (0, 3, 8, 8)


@BOTH
@pytest.mark.parametrize("drop_last", [False, True])
def test_steps_counts_the_batches(make_source: Make, make_arrays: Make, kind: str, drop_last: bool) -> None:
    loader = Loader(make_source(kind, make_arrays(100)), 32, drop_last=drop_last)
    assert loader.steps == len(list(loader.epoch(0))) == (3 if drop_last else 4)


@BOTH
def test_leaving_early_leaves_no_thread(make_source: Make, make_arrays: Make, kind: str) -> None:
    loader = train(make_source(kind, make_arrays(600)))
    before = threading.active_count()
    for leave_at in (0, 1, 5, 9) * 3:
        for batch in loader.epoch(0):
            if batch.step == leave_at:
                break
        assert threading.active_count() == before


@BOTH
def test_an_exception_in_the_loop_leaves_no_thread(make_source: Make, make_arrays: Make, kind: str) -> None:
    loader = train(make_source(kind, make_arrays(600)))
    before = threading.active_count()

    def fail() -> None:
        for _ in loader.epoch(0):
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert threading.active_count() == before


@BOTH
def test_batches_can_be_kept(make_source: Make, make_arrays: Make, kind: str) -> None:
    arrays: Arrays = make_arrays(1003)
    source = make_source(kind, arrays)
    parts = [np.arange(first, first + 59) for first in range(0, 1003, 59)]
    for part, (x, y) in zip(parts, list(source.read(parts)), strict=True):
        assert np.array_equal(x.numpy(), arrays.images[part])
        assert np.array_equal(y.numpy(), part)


@BOTH
def test_changing_a_batch_does_not_change_the_data(make_source: Make, make_arrays: Make, kind: str) -> None:
    source = make_source(kind, make_arrays(10))
    (x, y), *_ = source.read([np.arange(10)])
    x.zero_(), y.zero_()
    (x, y), *_ = source.read([np.arange(10)])
    assert x.any()
    assert y.any()


@BOTH
def test_parts_may_have_any_length_and_repeat_images(make_source: Make, make_arrays: Make, kind: str) -> None:
    source = make_source(kind, make_arrays(50))
    parts = [np.array(part, dtype=np.int64) for part in ([3], [], [4, 4, 0], list(range(50)), [], [9, 8])]
    assert [y.tolist() for _, y in source.read(parts)] == [part.tolist() for part in parts]
    assert list(source.read([])) == []


@BOTH
def test_epochs_may_overlap(make_source: Make, make_arrays: Make, kind: str) -> None:
    source = make_source(kind, make_arrays(600))
    expected = list(train(source).epoch(0))
    found = []
    for batch in train(source).epoch(0):
        found.append(batch)
        if batch.step in (0, 4):
            assert sum(len(other.y) for other in Loader(source, 100).epoch(0)) == 600
    assert_same(found, expected)


@BOTH
@pytest.mark.parametrize("row", [-1, 100])
def test_an_index_out_of_range_is_refused(make_source: Make, make_arrays: Make, kind: str, row: int) -> None:
    source = make_source(kind, make_arrays(100))
    with pytest.raises(AssertionError):
        list(source.read([np.array([0, row])]))


@BOTH
def test_every_step_is_augmented_differently(make_source: Make, make_arrays: Make, kind: str) -> None:
    (image,), _ = make_arrays(1)
    source = make_source(kind, Arrays(np.stack([image] * 192), np.zeros(192, np.int64)))
    batches = [batch.x for epoch in (0, 1) for batch in train(source).epoch(epoch)]
    assert not any(torch.equal(a, b) for number, a in enumerate(batches) for b in batches[:number])


@BOTH
def test_global_random_streams_stay_untouched(make_source: Make, make_arrays: Make, kind: str) -> None:
    torch_before, numpy_before = torch.get_rng_state(), repr(np.random.get_state())  # noqa: NPY002
    list(train(make_source(kind, make_arrays(100))).epoch(0))
    assert torch.equal(torch.get_rng_state(), torch_before)
    assert repr(np.random.get_state()) == numpy_before  # noqa: NPY002


@BOTH
def test_a_source_knows_its_size(make_source: Make, make_arrays: Make, kind: str) -> None:
    source = make_source(kind, make_arrays(33, 16))
    assert (len(source), source.image_size) == (33, 16)


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["memory", "ffcv"])
def test_batches_are_on_the_gpu(tmp_path: Path, make_source: Make, make_arrays: Make, kind: str) -> None:
    arrays: Arrays = make_arrays(1003)
    cpu = make_source("memory", arrays)
    if kind == "memory":
        gpu: Source = MemorySource(arrays, "cuda")
    else:
        make_source("ffcv", arrays)
        gpu = FfcvSource(tmp_path / "1003.beton", "cuda")
    found = list(Loader(gpu, 64, shuffle=True, device="cuda").epoch(0))
    assert {batch.x.device.type for batch in found} == {batch.y.device.type for batch in found} == {"cuda"}
    assert all(batch.x.is_contiguous(memory_format=torch.channels_last) for batch in found)
    on_cpu = [Batch(batch.step, batch.x.cpu(), batch.y.cpu()) for batch in found]
    assert_same(on_cpu, list(Loader(cpu, 64, shuffle=True).epoch(0)))


@pytest.mark.gpu
def test_the_ranks_interleave_on_the_gpu(make_arrays: Make) -> None:
    source = MemorySource(make_arrays(1003), "cuda")
    options: dict[str, Any] = {"device": "cuda", "augment": Augment(2, True), "shuffle": True}
    alone = list(Loader(source, 64, **options).epoch(1))
    for rank in range(3):
        share = list(Loader(source, 64, rank=rank, world=3, **options).epoch(1))
        assert_same(share, [Batch(b.step, b.x[rank::3], b.y[rank::3]) for b in alone])
