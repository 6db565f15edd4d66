"""Operating points exported from a run, and read back with and without distcond."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import distcond
from distcond.errors import ConfigError
from distcond.export import main
from distcond.models.dial import network_at
from distcond.operating_point import OperatingPoint
from distcond.runs.load_run import load
from support.processes import run


@pytest.fixture(scope="module")
def float_run(small: Callable[..., Any], whole: Callable[..., Path]) -> Path:
    """A finished FLOAT run whose dial blends weights."""
    return whole(small("float", eval__dial="weights", eval__dial_grid="0,0.5,1"))


@pytest.fixture(scope="module")
def oats_run(small: Callable[..., Any], whole: Callable[..., Path]) -> Path:
    return whole(small("oats"))


def images(count: int = 5) -> Tensor:
    return torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def close(found: Tensor, expected: Tensor) -> bool:
    return bool((found - expected).abs().max() <= 1e-5 * expected.abs().max().clamp(min=1))


def test_folder_reads_back_as_the_same_network(float_run: Path, tmp_path: Path, capsys: Any) -> None:
    assert main([str(float_run), "dial=0,0.5,1", "formats=safetensors", f"out={tmp_path}"]) == 0
    folders = [Path(line) for line in capsys.readouterr().out.split()]
    assert [folder.name for folder in folders] == ["weights0", "weights0.5", "weights1"]
    model, x = load(float_run), images()
    for folder, t in zip(folders, (0.0, 0.5, 1.0), strict=True):
        assert close(distcond.load(folder)(x), network_at(model, OperatingPoint(1.0, "weights", t))(x))


@pytest.mark.parametrize("words", [["dial=0.5", "rule=outputs", "card=false"], ["lam=1", "keep_norm=true"]])
def test_other_kinds_of_network_read_back(float_run: Path, tmp_path: Path, capsys: Any, words: list[str]) -> None:
    main([str(float_run), *words, "card=false", "formats=safetensors", f"out={tmp_path}"])
    found = distcond.load(capsys.readouterr().out.strip())
    point: Any = OperatingPoint(1.0, "outputs", 0.5) if "rule=outputs" in words else 1.0
    assert close(found(images()), network_at(load(float_run), point)(images()))


def test_narrower_width_is_a_smaller_file(oats_run: Path, tmp_path: Path, capsys: Any) -> None:
    sizes = []
    for width in load(oats_run).width_mults[0::2]:
        main([str(oats_run), "lam=1", f"width={width}", "card=false", "formats=safetensors", f"out={tmp_path}"])
        folder = Path(capsys.readouterr().out.strip())
        sizes.append((folder / "model.safetensors").stat().st_size)
        assert close(distcond.load(folder)(images()), network_at(load(oats_run), 1.0, width)(images()))
    assert sizes[1] < sizes[0]


def test_programs_run_without_distcond(float_run: Path, tmp_path: Path, capsys: Any) -> None:
    main([str(float_run), "dial=0.5", "formats=safetensors,pt2,onnx", f"out={tmp_path}"])
    folder = Path(capsys.readouterr().out.strip())
    torch.save(images(), tmp_path / "x.pt")
    code = f"""
import sys
sys.modules["distcond"] = None
import onnxruntime, torch
x = torch.load({str(tmp_path / "x.pt")!r})
pt2 = torch.export.load({str(folder / "model.pt2")!r}).module()
onnx = onnxruntime.InferenceSession({str(folder / "model.onnx")!r})
logits = [pt2(x).detach(), torch.from_numpy(onnx.run(None, {{"image": x.numpy()}})[0])]
torch.save(logits, {str(tmp_path / "out.pt")!r})
"""
    done = run([sys.executable, "-c", code])
    assert done.status == 0, done.output
    expected = distcond.load(folder)(images())
    for found in torch.load(tmp_path / "out.pt"):
        assert close(found, expected)


def test_card_has_every_measured_row(float_run: Path, tmp_path: Path, capsys: Any) -> None:
    main([str(float_run), "dial=1", "formats=safetensors", f"out={tmp_path}"])
    folder = Path(capsys.readouterr().out.strip())
    front = (folder / "README.md").read_text().split("---\n")[1]
    (result,) = json.loads(front.split("model-index: ")[1])[0]["results"]
    assert [metric["args"]["attack"] == "none" for metric in result["metrics"]] == [True, False]
    robust = result["metrics"][1]["args"]
    assert robust["steps"] == 2 and robust["precision"] == "float32" and robust["num_examples"] == 61
    assert json.loads((folder / "leaderboard.json").read_text())["architecture"] == "small_cnn"
    assert (folder / "model.safetensors").stat().st_mode & 0o777 == (folder / "config.json").stat().st_mode & 0o777


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ([], "dial"),
        (["dial=0", "lam=0"], "dial"),
        (["dial=1.5"], "dial=1.5"),
        (["lam=2"], "lam=2"),
        (["lam=0", "rule=weights"], "rule"),
        (["dial=0", "rule=wieghts"], "weights"),
        (["dial=0.3"], "evaluate"),
        (["lam=1", "width=0.3", "card=false"], "width=0.3"),
        (["dial=0", "formats=onxx"], "onnx"),
        (["dial=0", "checkpoint=first"], "checkpoint"),
        (["dila=0"], "dial"),
    ],
)
def test_bad_settings_are_refused_by_name(float_run: Path, tmp_path: Path, words: list[str], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        main([str(float_run), *words, f"out={tmp_path / 'out'}"])
    assert not (tmp_path / "out").exists()


def test_other_content_is_not_overwritten(float_run: Path, tmp_path: Path) -> None:
    kept = tmp_path / "weights0" / "notes.txt"
    kept.parent.mkdir()
    kept.write_text("mine")
    with pytest.raises(ConfigError, match="out="):
        main([str(float_run), "dial=0", f"out={tmp_path}"])
    assert kept.read_text() == "mine"


def test_same_export_is_replaced(float_run: Path, tmp_path: Path) -> None:
    words = [str(float_run), "dial=0", "formats=safetensors", f"out={tmp_path}"]
    assert main(words) == 0 and main(words) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["weights0"]


@pytest.mark.parametrize("damage", ["cut", "other format", "other shape", "missing"])
def test_damaged_exports_are_refused(float_run: Path, tmp_path: Path, damage: str, capsys: Any) -> None:
    main([str(float_run), "dial=0", "formats=safetensors", f"out={tmp_path}"])
    folder = Path(capsys.readouterr().out.strip())
    weights, config = folder / "model.safetensors", folder / "config.json"
    values = json.loads(config.read_text())
    if damage == "cut":
        weights.write_bytes(weights.read_bytes()[:500])
    elif damage == "other format":
        config.write_text(json.dumps(values | {"format": "else"}))
    elif damage == "other shape":
        config.write_text(json.dumps(values | {"keep_norm": True}))
    else:
        config.write_text(json.dumps({name: value for name, value in values.items() if name != "num_classes"}))
    with pytest.raises(ConfigError, match=str(folder)):
        distcond.load(folder)
