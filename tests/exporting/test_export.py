"""Operating points exported from a run, and read back with and without distcond."""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

import distcond
from distcond.config.run_id import run_id
from distcond.data.prepare import prepare_data
from distcond.errors import ConfigError
from distcond.export import data_digest, main
from distcond.exporting.card import leaderboard_entry, rows_of
from distcond.exporting.folder import read_config
from distcond.exporting.target import require_finite
from distcond.models.dial import network_at
from distcond.models.plain_network import fold
from distcond.operating_point import OperatingPoint
from distcond.registry import lookup
from distcond.results.row import accuracy
from distcond.results.store import read_rows
from distcond.runs.load_run import load
from distcond.runs.run_dir import RunDir
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


@pytest.fixture(scope="module")
def exported(float_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export in safetensors."""
    out = tmp_path_factory.mktemp("exported")
    main([str(float_run), "dial=1", "formats=safetensors", f"out={out}"])
    return out / "weights1"


def changed(exported: Path, tmp_path: Path, **values: Any) -> Path:
    """A copy of an export whose config.json says something else."""
    for file in exported.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((exported / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | values))
    return tmp_path


@pytest.mark.parametrize("name", ["named_in_a_folder:MODEL", "named_in_a_folder.part:MODEL", "named_in_a_folder:"])
def test_code_named_in_a_folder_is_not_imported(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "named_in_a_folder.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError, match="named_in_a_folder"):
        distcond.load(changed(exported, tmp_path, architecture=name))
    assert not (tmp_path / "ran").exists() and "named_in_a_folder" not in sys.modules


def test_own_model_loads_once_imported(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = ModuleType("own_models")
    module.MODEL = lookup("model", "small_cnn")
    monkeypatch.setitem(sys.modules, "own_models", module)
    found = distcond.load(changed(exported, tmp_path, architecture="own_models:MODEL"))
    assert close(found(images()), distcond.load(exported)(images()))


PLACE = {"lam": 1.0, "blend": "weights", "t": 1.0, "width": 1.0, "noise_seed": 0}


@pytest.mark.parametrize(
    "values",
    [
        *({"num_classes": value} for value in (10**15, -1, 0, "10", True, None, 11)),
        *({"image_size": value} for value in (-1, 0, "8", 10**9, 8.5)),
        *({"classes": value} for value in (5, [1], "abc", None)),
        *({"options": {"widths": value}} for value in ([10**9] * 3, [-4], [0], "x", [], None, [4] * 10**5, [[4]], {})),
        {"options": []},
        {"options": {"__class__": 1}},
        {"architecture": "resnet20", "options": {"depths": [10**7, 1, 1], "widths": [4, 4, 4]}},
        *({"architecture": value} for value in (5, "nosuch", "../x", "", "resnet20")),
        *({"operating_point": value} for value in ([], {}, PLACE | {"t": 2}, PLACE | {"lam": None})),
        *({"operating_point": PLACE | {"blend": value}} for value in ("else", 5, ["outputs"])),
        {"operating_point": PLACE | {"blend": "outputs", "t": 0.5}},
        {"operating_point": PLACE | {"t": float("nan")}},
        *({"mix": value} for value in (5, {"s": 1}, {"s": 1, "p": "x", "c": 0})),
        {"keep_norm": "yes"},
        {"provenance": []},
    ],
)
def test_config_of_others_is_refused(exported: Path, tmp_path: Path, values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=str(tmp_path)):
        distcond.load(changed(exported, tmp_path, **values))


def test_deeply_nested_config_is_refused(exported: Path, tmp_path: Path) -> None:
    folder = changed(exported, tmp_path)
    (folder / "config.json").write_text("[" * 100000)
    with pytest.raises(ConfigError, match=r"config\.json"):
        distcond.load(folder)


@pytest.mark.parametrize("kind", ["half", "narrower", "more"])
def test_weights_of_another_form_are_refused(exported: Path, tmp_path: Path, kind: str) -> None:
    from safetensors.torch import load_file, save_file

    folder = changed(exported, tmp_path)
    state = load_file(folder / "model.safetensors")
    name = next(name for name, value in state.items() if value.dim() == 4)
    other = {"half": {name: state[name].half()}, "narrower": {name: state[name][1:]}, "more": {"x": torch.ones(1)}}
    save_file(state | other[kind], folder / "model.safetensors")
    with pytest.raises(ConfigError, match="does not fit"):
        distcond.load(folder)


def test_files_of_the_user_stay(float_run: Path, tmp_path: Path) -> None:
    words = [str(float_run), "dial=0", "formats=safetensors", f"out={tmp_path}"]
    main(words)
    (tmp_path / "weights0" / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="out="):
        main(words)
    assert (tmp_path / "weights0" / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("target", ["file", "link"])
def test_target_that_is_no_folder_is_refused(float_run: Path, tmp_path: Path, target: str) -> None:
    place = tmp_path / "weights0"
    place.write_text("mine") if target == "file" else place.symlink_to(tmp_path)
    with pytest.raises(ConfigError, match="out="):
        main([str(float_run), "dial=0", "formats=safetensors", f"out={tmp_path}"])
    assert [path.name for path in tmp_path.iterdir()] == ["weights0"]


def test_programs_alone_are_replaced(float_run: Path, tmp_path: Path) -> None:
    words = [str(float_run), "dial=0", "formats=pt2", f"out={tmp_path}"]
    assert main(words) == 0 and main(words) == 0
    text = (tmp_path / "weights0" / "README.md").read_text()
    assert "torch.export.load" in text and "distcond.load" not in text


@pytest.mark.parametrize("kind", ["safetensors", "pt2"])
def test_failed_write_leaves_the_export_there(float_run: Path, tmp_path: Path, kind: str) -> None:
    words = [str(float_run), "dial=0", f"formats={kind}", f"out={tmp_path}"]
    main(words)
    before = {path.name: path.read_bytes() for path in (tmp_path / "weights0").iterdir()}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, limits[1]))
    try:
        with pytest.raises(ConfigError, match="out="):
            main(words)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in tmp_path.iterdir()] == ["weights0"]
    assert {path.name: path.read_bytes() for path in (tmp_path / "weights0").iterdir()} == before


def test_rows_of_an_earlier_epoch_are_left_out(float_run: Path, exported: Path) -> None:
    config, rows = read_config(exported), read_rows(float_run)
    own = rows_of(rows, config, "best")
    earlier = [replace(row, epoch=row.epoch + 1, num_correct=0) for row in rows]
    assert rows_of([*earlier, *rows], config, "best") == own


def test_leaderboard_compares_within_one_threat(float_run: Path, exported: Path) -> None:
    config = read_config(exported)
    clean, pgd = rows_of(read_rows(float_run), config, "best")
    full = replace(pgd, attack="autoattack", num_correct=30)
    weaker = replace(full, epsilon=full.epsilon / 2, num_correct=50)
    stronger = replace(pgd, epsilon=2 * pgd.epsilon, num_correct=1)
    entry = leaderboard_entry(config, [clean, weaker, full, replace(pgd, num_correct=31), stronger])
    assert entry["autoattack_acc"] == entry["best_known_acc"] == round(100 * accuracy(full), 2)


def test_weights_that_diverged_are_refused(float_run: Path) -> None:
    network, point = fold(load(float_run), 0.0), OperatingPoint(0.0)
    require_finite(network, point)
    next(network.parameters())[0] = torch.nan
    with pytest.raises(ConfigError, match="lam"):
        require_finite(network, point)


@pytest.mark.parametrize(
    ("words", "named"),
    [(["s3://bucket/run", "dial=0"], "out="), (["RUN", "dial=0.1234567,0.1234568", "card=false"], "name")],
)
def test_places_without_a_folder_are_refused(float_run: Path, words: list[str], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        main([word.replace("RUN", str(float_run)) for word in words])
    assert not (float_run / "exports").exists()


def test_provenance_names_the_data(float_run: Path, exported: Path) -> None:
    config = RunDir(float_run).config()
    found = prepare_data(config.data).fingerprint
    assert data_digest(config, RunDir(float_run.with_name(run_id(config, found)))) == found
    assert data_digest(replace(config, seed=config.seed + 1), RunDir(float_run.with_name(run_id(config, found)))) == ""
    assert "data" in read_config(exported).provenance
