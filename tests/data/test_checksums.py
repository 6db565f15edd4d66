from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from distcond.data.checksums import PublishedFile, check_published, file_checksum
from distcond.data.datasets.cifar import CIFAR10_DATASET
from distcond.data.datasets.cifar import CIFAR10_PUBLISHED as CIFAR10
from distcond.errors import ConfigError
from distcond.registry import lookup


def make(root: Path, on_disk: Any) -> Path:
    on_disk.npz(root, {"train": on_disk.images(20, 32, 10), "test": on_disk.images(10, 32, 10)})
    return root / "cifar10.npz"


@pytest.mark.parametrize(("name", "algorithm"), [("SHA256SUMS", "sha256"), ("MD5SUMS", "md5")])
@pytest.mark.parametrize("mark", [" ", "*"])
def test_listed_checksums_are_checked(tmp_path: Path, on_disk: Any, name: str, algorithm: str, mark: str) -> None:
    file = make(tmp_path, on_disk)
    right = hashlib.new(algorithm, file.read_bytes()).hexdigest()
    # Archives that were removed after unpacking do not matter.
    (tmp_path / name).write_text(f"{'0' * len(right)} {mark}gone.tar.gz\n\n{right.upper()} {mark}./cifar10.npz\n")
    CIFAR10_DATASET.read(str(tmp_path))
    (tmp_path / name).write_text(f"{'0' * len(right)} {mark}cifar10.npz\n")
    with pytest.raises(ConfigError, match=rf"cifar10\.npz .*sum .*{name}"):
        CIFAR10_DATASET.read(str(tmp_path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("what", r"SHA256SUMS, line 1: expected a checksum"),
        (f"{'0' * 64}  more.npz", r"more\.npz is missing, but .* lists"),
    ],
)
def test_unusable_checksum_lists_are_refused(tmp_path: Path, on_disk: Any, text: str, message: str) -> None:
    make(tmp_path, on_disk)
    (tmp_path / "SHA256SUMS").write_text(text)
    with pytest.raises(ConfigError, match=message):
        CIFAR10_DATASET.read(str(tmp_path))


def test_files_of_published_size_need_published_content(tmp_path: Path) -> None:
    file = tmp_path / "data_batch_1"
    file.write_bytes(b"abc")
    md5 = file_checksum(file, "md5")
    assert md5 == "900150983cd24fb0d6963f7d28e17f72"
    check_published([file], {"data_batch_1": PublishedFile(3, md5)})
    check_published([file], {"data_batch_1": PublishedFile(4, "another"), "data_batch_2": PublishedFile(3, "another")})
    with pytest.raises(ConfigError, match=r"data_batch_1 .*MD5 .*0123"):
        check_published([file], {"data_batch_1": PublishedFile(3, "0123")})


def test_published_checksums_equal_torchvisions() -> None:
    cifar = pytest.importorskip("torchvision.datasets.cifar")
    from torchvision.datasets import stl10, svhn

    theirs = dict(cifar.CIFAR10.train_list + cifar.CIFAR10.test_list)
    assert {name: original.md5 for name, original in CIFAR10.items()} == theirs
    ours = {
        name: vars(__import__(f"distcond.data.datasets.{name}", fromlist=[name]))["PUBLISHED"]
        for name in ("svhn", "stl10")
    }
    for _, name, md5 in svhn.SVHN.split_list.values():
        if not name.startswith("extra"):
            assert ours["svhn"][name].md5 == md5
    listed = dict(stl10.STL10.train_list + stl10.STL10.test_list)
    assert {name: original.md5 for name, original in ours["stl10"].items()} == {
        name: md5 for name, md5 in listed.items() if not name.startswith("unlabeled")
    }
    assert lookup("data", "stl10").image_size ** 2 * 3 * 5_000 == ours["stl10"]["train_X.bin"].size
