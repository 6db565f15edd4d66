"""A process lists a root and reads its content once, until something in the root changes."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from distcond.config.schema import DataConfig
from distcond.data.dataset import Augment, Dataset
from distcond.data.prepare import class_names, infer_from_root, open_source, prepare_data
from distcond.data.readers import layout as module
from distcond.data.readers.class_folders import class_folders
from distcond.data.readers.layout import DatasetFiles, Layout, needs_layouts, with_layouts
from distcond.train import main

CALLS: Counter[str] = Counter()
CLASSES = ("cat", "dog", "owl")


def counted(layout: Layout) -> Layout:
    """`layout` with every listing ("find"), hashing ("linked") and reading ("read") counted in `CALLS`."""

    def count(name: str) -> Any:
        function = getattr(layout, name)

        def call(*args: Any) -> Any:
            CALLS[name] += 1
            return function(*args)

        return call

    return replace(layout, **{name: count(name) for name in ("find", "linked", "read")})


def infer_sizes(files: DatasetFiles) -> Any:
    return module.InferredSizes(int(files.splits()["train"].labels.max()) + 1, 8)


DATASET = with_layouts(
    Dataset("counted", "", 0, 0, (0.5,) * 3, (0.5,) * 3, Augment(), {}, needs_layouts, needs_layouts, any_size=True),
    [counted(class_folders({"train": "train", "test": "test"}))],
    infer_sizes=infer_sizes,
)


@pytest.fixture
def config(tmp_path: Path, on_disk: Any) -> DataConfig:
    for split, count in (("train", 30), ("test", 9)):
        on_disk.files(tmp_path / "root" / split, on_disk.images(count, 8, 3), CLASSES)
    CALLS.clear()
    return DataConfig(
        name=f"{__name__}:DATASET", root=str(tmp_path / "root"), cache_dir=str(tmp_path / "cache"), loader="memory"
    )


def use_everywhere(config: DataConfig) -> DataConfig:
    """What the driver and a worker of one process ask of a data set."""
    data = infer_from_root(config)
    for _ in range(3):
        assert len(open_source(prepare_data(data), "test")) == 9
        assert class_names(data) == CLASSES
    return data


def test_a_root_is_read_once(config: DataConfig) -> None:
    use_everywhere(config)
    assert CALLS == {"find": 1, "linked": 1, "read": 1}


def test_a_training_run_reads_its_root_once(config: DataConfig, tmp_path: Path) -> None:
    settings = {
        "data": config.name, "data.root": config.root, "data.cache_dir": config.cache_dir, "data.loader": "memory",
        "run_root": tmp_path / "runs", "epochs": 1, "batch_size": 8, "model.widths": "4",
        "launch": "local", "launch.workers": 1,
        "attack.num_steps": 1, "eval.attack.num_steps": 1, "eval.sentinel": "off", "eval.dial": "switch",
        "eval.lam_grid": "1",
    }  # fmt: skip
    assert main(["float_digits", *(f"{name}={value}" for name, value in settings.items())]) == 0
    assert CALLS == {"find": 1, "linked": 1, "read": 1}


def test_large_roots_drop_their_listing(config: DataConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_KEPT_FILES", 5)
    use_everywhere(config)
    assert CALLS == {"find": 2, "linked": 1, "read": 2}, "only the conversion lists it again"


@pytest.mark.parametrize("change", ["edit", "add", "remove"])
def test_a_changed_root_is_read_again(config: DataConfig, change: str) -> None:
    data = use_everywhere(config)
    before = prepare_data(data).fingerprint
    image, other = sorted(Path(data.root, "train", "cat").iterdir())[:2]
    if change == "edit":
        image.write_bytes(other.read_bytes() + b"\0")
    elif change == "add":
        (image.parent / "new.png").write_bytes(image.read_bytes())
    else:
        image.unlink()
    assert prepare_data(data).fingerprint != before
    assert CALLS["find"] == 2
