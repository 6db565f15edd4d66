"""Extra images: their share of every batch, for both loaders and any number of ranks; refused files."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
import torch

from distcond.config.schema import DataConfig
from distcond.data.dataset import Arrays, Augment
from distcond.data.extra import check_share, prepare_extra
from distcond.data.loader import Batch, Loader
from distcond.data.prepare import prepare_data
from distcond.data.sources import MemorySource
from distcond.errors import ConfigError
from distcond.registry import lookup

DIGITS = lookup("data", "digits")


def made(n: int, first_label: int) -> Arrays:
    """Images of one colour each, which is their label."""
    labels = np.arange(first_label, first_label + n, dtype=np.int64)
    return Arrays(np.broadcast_to(labels[:, None, None, None], (n, 4, 4, 3)).astype(np.uint8), labels)


def batches(
    kind: str, make_source: Callable[..., Any], epoch: int = 0, rank: int = 0, world: int = 1, start: int = 0
) -> list[Batch]:
    loader = Loader(
        make_source(kind, made(50, 0)), 8, 3, rank, world, shuffle=True, drop_last=True,
        extra=MemorySource(made(100, 100)), extra_share=0.7,
    )  # fmt: skip
    assert loader.steps == 6
    return list(loader.epoch(epoch, start))


@pytest.mark.parametrize("kind", ["memory", "ffcv"])
def test_every_batch_has_its_share_at_random_rows(make_source: Any, kind: str) -> None:
    found = batches(kind, make_source)
    assert len(found) == 6
    extra = torch.stack([batch.y >= 100 for batch in found])
    assert extra.sum(1).tolist() == [6] * 6  # 0.7 of 8, rounded
    assert len({tuple(row) for row in extra.tolist()}) > 1
    for batch in found:
        assert torch.allclose(batch.x[:, 0, 0, 0] * 255, batch.y.float())


def test_no_image_repeats_before_all_appeared(make_source: Any) -> None:
    seen = torch.cat([batch.y for batch in batches("memory", make_source)]).tolist()
    assert len(set(seen)) == len(seen) == 48
    assert set(seen) != set(torch.cat([batch.y for batch in batches("memory", make_source, epoch=1)]).tolist())
    few = Loader(
        MemorySource(made(50, 0)), 8, shuffle=True, drop_last=True, extra=MemorySource(made(10, 100)), extra_share=0.5
    )
    times = torch.cat([batch.y for batch in few.epoch(0)]).bincount(minlength=110)[100:]
    assert times.sum() == 24
    assert set(times.tolist()) == {2, 3}


@pytest.mark.parametrize("kind", ["memory", "ffcv"])
def test_ranks_and_resumed_epochs_see_the_same_batches(make_source: Any, kind: str) -> None:
    alone = batches(kind, make_source)
    for rank in range(3):
        for ours, whole in zip(batches(kind, make_source, rank=rank, world=3), alone, strict=True):
            assert torch.equal(ours.y, whole.y[rank::3])
            assert torch.equal(ours.x, whole.x[rank::3])
    assert all(torch.equal(a.x, b.x) for a, b in zip(batches(kind, make_source, start=4), alone[4:], strict=True))


def npz(path: Path, **arrays: np.ndarray) -> str:
    np.savez(path, **arrays)
    return str(path)


def test_published_files_are_unpacked_once(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (30, 8, 8, 3), dtype=np.uint8)
    labels = np.arange(30) % 10
    path = npz(tmp_path / "1m.npz", image=images, label=labels)
    extra = prepare_extra(path, str(tmp_path / "cache"), DIGITS)
    assert np.array_equal(extra.arrays().images, images)
    assert np.array_equal(extra.arrays().labels, labels)
    written = [file.stat().st_mtime_ns for file in sorted(extra.folder.iterdir())]
    assert prepare_extra(path, str(tmp_path / "cache"), DIGITS) == extra
    assert [file.stat().st_mtime_ns for file in sorted(extra.folder.iterdir())] == written
    other = npz(tmp_path / "1m.npz", image=images[::-1], label=labels)
    assert prepare_extra(other, str(tmp_path / "cache"), DIGITS).fingerprint != extra.fingerprint


IMAGES, LABELS = np.zeros((4, 8, 8, 3), dtype=np.uint8), np.zeros(4, dtype=np.int64)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"image": IMAGES, "label": LABELS + 0.7}, "labels are float64"),
        ({"image": IMAGES}, "needed: label or labels or y"),
        ({"image": IMAGES, "label": LABELS + 10}, "labels reach 10; needed: 0 to 9"),
        ({"image": IMAGES[:3], "label": LABELS}, "labels are int64"),
        ({"image": IMAGES.astype(np.float32), "label": LABELS}, "both loaders need uint8"),
        ({"image": np.zeros((4, 9, 9, 3), np.uint8), "label": LABELS}, "digits has 8"),
        ({"image": IMAGES, "label": np.array([{}] * 4)}, "of plain arrays"),
    ],
)
def test_unusable_files_are_refused_by_name(tmp_path: Path, arrays: Any, words: str) -> None:
    path = npz(tmp_path / "extra.npz", **arrays)
    with pytest.raises(ConfigError, match=words) as caught:
        prepare_extra(path, str(tmp_path), DIGITS)
    assert str(caught.value).startswith(f"data.extra={path}")
    assert "\n" not in str(caught.value)


def test_changed_unpacked_arrays_are_unpacked_again(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", image=np.zeros((9, 8, 8, 3), np.uint8), label=np.arange(9))
    extra = prepare_extra(str(tmp_path / "a.npz"), str(tmp_path / "cache"), DIGITS)
    file = extra.folder / "images.npy"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + b"x")
    assert prepare_extra(str(tmp_path / "a.npz"), str(tmp_path / "cache"), DIGITS) == extra
    assert file.read_bytes() == whole


def test_archive_larger_than_the_disk_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("image.npy", "w", force_zip64=True) as member:
            write_header(member, (10**12, 8, 8, 3))
        archive.getinfo("image.npy").file_size = 128 + 192 * 10**12
    with pytest.raises(ConfigError, match=r"data\.extra=.*1\.92e\+05 GB.* free"):
        prepare_extra(str(path), str(tmp_path / "cache"), DIGITS)
    assert not list(tmp_path.glob("cache/extra-*"))


def test_array_longer_than_its_header_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("image.npy", "w") as member:
        write_header(member, (4, 8, 8, 3))
        member.write(bytes(1 << 20))
    with pytest.raises(ConfigError, match=r"data\.extra=.*image\.npy is \d+ bytes in place of"):
        prepare_extra(str(path), str(tmp_path / "cache"), DIGITS)


def write_header(member: IO[bytes], shape: tuple[int, ...]) -> None:
    """Of 128 bytes, as numpy writes it."""
    np.lib.format.write_array_header_1_0(member, {"descr": "|u1", "fortran_order": False, "shape": shape})


def test_missing_and_foreign_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        prepare_extra(str(tmp_path / "none.npz"), str(tmp_path), DIGITS)
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(ConfigError, match=r"is not a complete \.npz"):
        prepare_extra(str(tmp_path / "text.npz"), str(tmp_path), DIGITS)


def test_fingerprints_depend_on_extra_content(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (30, 8, 8, 3), dtype=np.uint8)
    one = npz(tmp_path / "one.npz", image=images, label=np.arange(30) % 10)
    other = npz(tmp_path / "other.npz", image=images[::-1], label=np.arange(30) % 10)
    plain = replace(DataConfig(), cache_dir=str(tmp_path / "cache"), loader="memory")
    names = [prepare_data(replace(plain, extra=extra)).fingerprint for extra in ("", one, one, other)]
    assert names[1] == names[2]
    assert len(set(names)) == 3


def test_a_damaged_archive_is_one_line(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / "extra.npz"
    np.savez_compressed(path, image=rng.integers(0, 256, (30, 8, 8, 3), dtype=np.uint8), label=np.arange(30) % 10)
    whole, refused = path.read_bytes(), 0
    for place in range(40, len(whole) - 300, 97):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            prepare_extra(str(path), str(tmp_path / f"cache{place}"), DIGITS)
        except ConfigError as error:
            refused += str(error).startswith(f"data.extra={path}")
    assert refused > 20


def test_large_archives_of_one_size_differ(tmp_path: Path) -> None:
    found = []
    for folder, shift in (("a", 0), ("b", 1)):
        (tmp_path / folder).mkdir()
        path = npz(tmp_path / folder / "1m.npz", image=IMAGES, label=LABELS + shift)
        found.append(prepare_extra(path, str(tmp_path / "cache"), DIGITS).arrays().labels[0])
    assert found == [0, 1]


def test_shares_rounding_to_none_or_all_are_refused() -> None:
    check_share(128, 0.7)
    for batch_size, share in ((64, 0.001), (1, 0.7), (4, 0.99)):
        with pytest.raises(ConfigError, match=r"^data.extra_share="):
            check_share(batch_size, share)


def test_randomly_cropped_data_refuse_extra_images(tmp_path: Path) -> None:
    cropped = replace(DIGITS, augment=Augment(crop=(0.1, 1.0)))
    with pytest.raises(ConfigError, match="random crops"):
        prepare_extra(npz(tmp_path / "extra.npz", image=IMAGES, label=LABELS), str(tmp_path), cropped)
