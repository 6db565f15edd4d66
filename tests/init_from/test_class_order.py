"""Class names and their order: stored with a run, compared by init_from and in evaluation."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from distcond.atomic_io import read_json
from distcond.config.schema import Config
from distcond.data.prepare import infer_from_root
from distcond.distributed.world import World
from distcond.errors import ConfigError
from distcond.evaluate import plan_evaluation
from distcond.init_from.initialise import check_init_from
from distcond.init_from.report import InitReport
from distcond.runs.build import build_model
from distcond.runs.load_run import load
from distcond.runs.run_dir import RunDir
from distcond.training import fit

NAMES = ("10", "2", "cat")


def folders(root: Path, names: tuple[str, ...] = NAMES) -> Path:
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("test", 4)):
        for name in names:
            (root / split / name).mkdir(parents=True)
            for row in range(count):
                Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(
                    root / split / name / f"{row}.png"
                )
    return root


@pytest.fixture
def on_folders(small: Any, tmp_path: Path) -> Any:
    """`on_folders(**settings)`: the config of a run on a folder of three classes."""
    root = folders(tmp_path / "images")

    def config(**settings: Any) -> Config:
        few = {"data__name": "image_folder", "data__root": str(root), "data__cache_dir": str(tmp_path / "cache")}
        found: Config = small("standard", **{"epochs": 1, "batch_size": 8, **few, **settings})
        return replace(found, data=infer_from_root(found.data))

    return config


def init_report(config: Config, tmp_path: Path, **beside: Any) -> InitReport:
    file = io.BytesIO()
    torch.save({"state_dict": build_model(config).backbone.state_dict(), **beside}, file)
    (tmp_path / "other.pth").write_bytes(file.getvalue())
    found = check_init_from(replace(config, init_from=str(tmp_path / "other.pth")))
    assert found is not None
    return found


@pytest.mark.parametrize(("order", "other"), [("natural", "lexicographic"), ("lexicographic", "natural")])
def test_other_order_is_suggested(on_folders: Any, tmp_path: Path, order: str, other: str) -> None:
    summary = init_report(on_folders(data__class_order=order), tmp_path).summary
    assert f"in {order} order" in summary
    assert f"data.class_order={other}" in summary


@pytest.mark.parametrize("beside", [{"class_to_idx": {"10": 0, "2": 1, "cat": 2}}, {"classes": list(NAMES)}])
def test_another_order_is_refused(on_folders: Any, tmp_path: Path, beside: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"class 0 is '10' there and 'cat' here; set data\.class_order=lexicographic"):
        init_report(on_folders(), tmp_path, **beside)
    assert "class_order" not in init_report(on_folders(data__class_order="lexicographic"), tmp_path, **beside).summary


def test_unknown_class_order_is_refused(on_folders: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="number the folders as there"):
        init_report(on_folders(), tmp_path, classes=["2", "cat", "10"])


def test_fresh_classifier_ignores_the_order(on_folders: Any, small: Any, tmp_path: Path) -> None:
    torch.save(build_model(small("standard")).backbone.state_dict(), tmp_path / "ten.pth")
    found = check_init_from(on_folders(init_from=str(tmp_path / "ten.pth")))
    assert found is not None
    assert "the classifier starts fresh" in found.summary
    assert "class_order" not in found.summary


def test_run_stores_the_class_names(on_folders: Any, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with RunDir(run).begin(on_folders()):
        fit.fit(on_folders(), World(), run)
    assert read_json(run / "classes.json") == {"0": "cat", "1": "2", "2": "10"}
    assert load(run).classes == ("cat", "2", "10")
    found = check_init_from(on_folders(init_from=str(run)))
    assert found is not None and not found.record["classes"]
    with pytest.raises(ConfigError, match=r"class 0 is 'cat' there and '10' here; set data\.class_order=natural"):
        check_init_from(on_folders(init_from=str(run), data__class_order="lexicographic"))
    other = folders(tmp_path / "other", ("10", "2", "dog"))
    with pytest.raises(ConfigError, match=r"data\.root=.*class 0 is 'dog' there and 'cat' in the run"):
        plan_evaluation([str(run), f"data.root={other}"])
