"""Codes of lam from a file, as OAT's authors keep them beside their weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from distcond import train
from distcond.config.schema import Config
from distcond.errors import ConfigError
from distcond.init_from.initialise import check_init_from
from distcond.layers.encode import Codebook
from distcond.models.conditional import AtLambda, ConditionalModel
from distcond.results.store import read_rows
from distcond.run_layout import FINISHED_FILE, INIT_FROM_FILE
from distcond.runs.build import build_model
from distcond.runs.load_run import load

DIM = 8
SMALL = {
    "method": "oat", "model": "resnet20", "method.dim": DIM, "model.depths": "1,1", "model.widths": "4,8",
    "data.loader": "memory", "eval.dial": "switch", "eval.lam_grid": "0,0.2,1", "launch": "local", "epochs": 0,
    "eval.test_examples": 50, "eval.train_examples": 0, "eval.attack.num_steps": 1, "eval.attack.epsilon": 0.1,
    "eval.attack.step_size": 0.1, "eval.sentinel": "off", "data.mean": "0,0,0", "data.std": "1,1,1",
}  # fmt: skip


def matrix(dim: int = DIM, seed: int = 5) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(dim, dim)))[0]


def their_name(name: str) -> str:
    """The name that OAT's authors give to a tensor of the small ResNet."""
    parts, number = name.split("."), {"unit1": "1", "unit2": "2", "shortcut": "_sc", "stem": "1"}
    if parts[0] == "linear":
        return name
    block, unit, rest = (
        ("", parts[0], parts[1:]) if parts[0] == "stem" else (f"bundle{int(parts[1]) + 1}.0.", parts[2], parts[3:])
    )
    kind = {"conv": "conv", "norm": "bn", "modulate": "film"}[rest[0]]
    inner = {"clean": "BN_c", "adv": "BN_a", "hidden": "MLP.0", "out": "MLP.2"}
    return ".".join([f"{block}{kind}{number[unit]}", *(inner.get(part, part) for part in rest[1:])])


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory, tiny: Any) -> tuple[Path, ConditionalModel]:
    """A folder with weights and codes under the authors' names, and the network they make."""
    folder = tmp_path_factory.mktemp("oat")
    net = build_model(
        tiny("oat", "resnet20", method__dim=DIM, model__depths="1,1", model__widths="4,8", seed=9,
             data__mean="0,0,0", data__std="1,1,1")
    )  # fmt: skip
    source = torch.Generator().manual_seed(1)
    for name, tensor in net.backbone.state_dict().items():
        if "norm" in name and tensor.is_floating_point():
            tensor.copy_(0.5 + torch.rand(tensor.shape, generator=source))
    torch.save({their_name(name): t for name, t in net.backbone.state_dict().items()}, folder / "latest.pth")
    np.save(folder / "rand_otho_mat.npy", matrix())
    assert isinstance(net.encode, Codebook)
    net.encode.table.copy_(torch.from_numpy(matrix()[:6]))
    return folder, net.eval()


def command(folder: Path, cache: Path, **changes: object) -> list[str]:
    files = {"init_from": folder / "latest.pth", "method.code_file": folder / "rand_otho_mat.npy"}
    settings = {**SMALL, **files, "data.cache_dir": cache, **{k.replace("__", "."): v for k, v in changes.items()}}
    return [f"{path}={value}" for path, value in settings.items()]


def test_authors_checkpoint_is_evaluated_with_its_codes(
    theirs: tuple[Path, ConditionalModel], digits_cache: Path, tmp_path: Path
) -> None:
    folder, net = theirs
    assert train.main(["float_digits", *command(folder, digits_cache, run_root=tmp_path)]) == 0
    (run,) = tmp_path.iterdir()
    copy = load(run)
    x = torch.rand(16, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    for lam in (0.0, 0.2, 1.0):
        assert torch.equal(logits(copy, lam, x), logits(net, lam, x))
    assert {(row.epoch, row.num_examples) for row in read_rows(run)} == {(0, 50)}
    assert json.loads((run / FINISHED_FILE).read_text())["epochs"] == 0
    assert json.loads((run / INIT_FROM_FILE).read_text())["code_file"].endswith("rand_otho_mat.npy")
    # The same content in another file is the same run, and is not needed once the run has begun.
    assert train.main(["float_digits", *command(folder, digits_cache, run_root=tmp_path)]) == 0
    other = folder / "copy.npy"
    np.save(other, matrix())
    argv = command(folder, digits_cache, run_root=tmp_path, method__code_file=other)
    assert train.main(["float_digits", *argv]) == 0
    assert list(tmp_path.iterdir()) == [run]


def logits(net: ConditionalModel, lam: float, x: Tensor) -> Tensor:
    return AtLambda(net, lam)(x)


def test_codes_follow_the_order_of_choices() -> None:
    book, rows = Codebook("rand", (1.0, 0.0, 0.5), DIM), torch.from_numpy(matrix())
    book.set_matrix(rows)
    assert torch.equal(book(torch.tensor([0.5, 1.0, 0.0])), rows[[2, 0, 1]].float())


def test_other_codes_are_another_run(tiny: Any, tmp_path: Path) -> None:
    digests = []
    for seed in (1, 2):
        np.save(tmp_path / f"{seed}.npy", matrix(seed=seed))
        report = check_init_from(tiny("oat", method__dim=DIM, method__code_file=str(tmp_path / f"{seed}.npy")))
        assert report is not None
        digests.append(report.digest)
    assert digests[0] != digests[1]


BROKEN = {
    "missing": (None, {}),
    "wide": (matrix(16), {}),
    "short": (matrix()[:5], {}),
    "vector": (matrix()[0], {}),
    "nan": (np.full((DIM, DIM), np.nan), {}),
    "text": (np.array([["a"] * DIM] * DIM), {}),
    "objects": (np.array([[None] * DIM] * DIM), {}),
    "encoding": (matrix(), {"method__encoding": "onehot"}),
    "raw lam": (matrix(), {"method__encoding": "none"}),
}


@pytest.mark.parametrize("case", BROKEN)
def test_unusable_codes_are_refused(case: str, tiny: Any, tmp_path: Path) -> None:
    content, settings = BROKEN[case]
    file = tmp_path / "codes.npy"
    if content is not None:
        np.save(file, content, allow_pickle=True)
    with pytest.raises(ConfigError, match=f"^method.code_file={file}: ") as refused:
        check_init_from(tiny("oat", method__dim=DIM, method__code_file=str(file), **settings))
    assert "\n" not in str(refused.value)


def test_damaged_file_of_codes_is_refused(tiny: Any, tmp_path: Path) -> None:
    file = tmp_path / "codes.npy"
    for content in (b"", b"hello", b"\x93NUMPY\x01\x00"):
        file.write_bytes(content)
        with pytest.raises(ConfigError, match=r"^method.code_file="):
            check_init_from(tiny("oat", method__dim=DIM, method__code_file=str(file)))


@pytest.mark.parametrize("method", ["float", "floats", "robust_bird"])
def test_nothing_to_evaluate_is_refused(method: str, tiny: Any, theirs: Any) -> None:
    init_from = {} if method == "float" else {"init_from": str(theirs[0] / "latest.pth")}
    config: Config = tiny(method, "resnet20", epochs=0, **init_from)
    with pytest.raises(ConfigError, match=r"^epochs=0: "):
        check_init_from(config)
