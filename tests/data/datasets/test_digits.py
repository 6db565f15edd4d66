from __future__ import annotations

import sys

import numpy as np
import pytest

from distcond.data.dataset import check_arrays
from distcond.data.datasets.digits import DATASET, split_rows
from distcond.errors import ConfigError
from distcond.registry import table


def test_the_splits_hold_every_digit_once() -> None:
    from sklearn.datasets import load_digits

    values, labels = load_digits(return_X_y=True)
    rows = split_rows(labels)
    assert {split: len(part) for split, part in rows.items()} == dict(DATASET.splits)
    assert sorted(np.concatenate(list(rows.values()))) == list(range(1797))
    found = DATASET.read("")
    for split, arrays in found.items():
        check_arrays(arrays, split)
        assert np.array_equal(arrays.labels, labels[rows[split]])
        expected = np.rint(values[rows[split]].reshape(-1, 8, 8) * 255 / 16)
        assert all(np.array_equal(arrays.images[..., channel], expected) for channel in range(3))


def test_the_splits_are_stratified() -> None:
    for split, arrays in DATASET.read("").items():
        share = np.bincount(arrays.labels, minlength=10) / DATASET.splits[split]
        assert np.abs(share - 0.1).max() < 0.006, split


def test_the_split_never_changes() -> None:
    # A run resumed from an old checkpoint would otherwise train on what it is tested on.
    rows = split_rows(np.arange(1797) % 10)
    assert rows["test"][:8].tolist() == [8, 10, 17, 29, 31, 47, 56, 59]
    assert rows["val"][:8].tolist() == [4, 14, 21, 28, 33, 50, 63, 67]


def test_missing_scikit_learn_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    for ask in (DATASET.read, DATASET.fingerprint):
        with pytest.raises(ConfigError, match=r"data\.name=digits .*pip install scikit-learn"):
            ask("")


def test_the_fingerprint_is_stable() -> None:
    assert DATASET.fingerprint("") == DATASET.fingerprint("anywhere")
    assert len(DATASET.fingerprint("")) == 16


def test_the_mean_is_that_of_the_training_images() -> None:
    pixels = DATASET.read("")["train"].images / 255
    assert pixels.mean((0, 1, 2)) == pytest.approx(DATASET.mean, abs=1e-3)
    assert pixels.std((0, 1, 2)) == pytest.approx(DATASET.std, abs=1e-3)


def test_the_registry_finds_data_sets() -> None:
    assert {"cifar10", "digits"} <= set(table("data"))
    for dataset in table("data").values():
        assert set(dataset.splits) == {"train", "val", "test"}
        assert len(dataset.mean) == len(dataset.std) == 3
