"""Finding the state dict in checkpoints, and files without one."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from distcond.errors import ConfigError
from distcond.init_from.weights_file import Weights, read_weights_file, unwrap_weights

STATE = {"conv1.weight": torch.ones(2, 3, 3, 3), "fc.bias": torch.arange(4.0)}
MEAN, STD = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.25, 0.3])


def prefixed(prefix: str, state: dict[str, Tensor] = STATE) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in state.items()}


@pytest.mark.parametrize(
    "content",
    [
        STATE,
        OrderedDict(STATE),
        {"state_dict": STATE, "epoch": 3, "optimizer": {"state": {}}},
        {"model": {"state_dict": prefixed("module.")}},
        {"net": prefixed("module.model.")},
        {"last": prefixed("model.")},
        {"state_dict": prefixed("other."), "state_dict_ema": prefixed("_orig_mod.module.")},
        prefixed("1."),
        prefixed("module.1.model.backbone."),
        {"state_dict": prefixed("other."), "ema": {"decay": 0.999, "shadow": prefixed("module.")}},
        {"state_dict": STATE, "ema": {"decay": 0.999, "shadow_params": [torch.ones(3)]}},
        {"state_dict": STATE, "ema": {"decay": torch.tensor(0.999), "num_updates": torch.tensor(7)}},
        {"state_dict": STATE, "ema": {}},
        {"epoch": 7, "classifier_f": {"weights_of_it": prefixed("module.")}, "optimizer": {"exp": STATE}},
        {"trainer": {"ema": {"module": prefixed("net.")}}, "rng_state": torch.zeros(5)},
    ],
)
def test_dictionaries_and_prefixes_are_removed(content: Any) -> None:
    found = unwrap_weights(content)
    assert found.tensors.keys() == STATE.keys()
    assert all(found.tensors[name] is STATE[name] for name in STATE)
    assert found.mean is None
    assert found.digest == Weights(STATE).digest


def test_entry_and_other_entries_are_reported() -> None:
    found = unwrap_weights({"model": {"state_dict": {**STATE, "steps": 3}}})
    assert (found.entry, found.others) == ("model.state_dict", ("steps",))


@pytest.mark.parametrize(
    ("names", "prefix"),
    [
        (("mu", "sigma"), ""),
        (("mean", "std"), "model."),
        (("0.mean", "0.std"), "1."),
        (("normalize.mean", "normalize.std"), "model."),
        (("module.normalizer.new_mean", "module.normalizer.new_std"), "module.model."),
    ],
)
@pytest.mark.parametrize("shape", [(3,), (1, 3, 1, 1), (3, 1, 1)])
def test_normalisation_is_found(names: tuple[str, str], prefix: str, shape: tuple[int, ...]) -> None:
    found = unwrap_weights({names[0]: MEAN.view(shape), names[1]: STD.view(shape), **prefixed(prefix)})
    assert found.tensors.keys() == STATE.keys()
    assert found.mean is not None
    assert found.std is not None
    assert torch.equal(found.mean, MEAN[:, None, None])
    assert torch.equal(found.std, STD[:, None, None])


def test_average_is_completed_with_statistics() -> None:
    statistics = {"bn.running_mean": torch.ones(2)}
    average = {name: value + 1 for name, value in STATE.items()}
    found = unwrap_weights(
        {"state_dict": prefixed("module.", STATE | statistics), "ema": {"decay": 0.9, "shadow": average}}
    )
    assert found.entry == "ema.shadow"
    assert found.tensors.keys() == (STATE | statistics).keys()
    assert all(torch.equal(found.tensors[name], value) for name, value in (average | statistics).items())


@pytest.mark.parametrize(("mean", "std"), [(MEAN, STD), (MEAN * 0, STD / STD)])
@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize("plain", [False, True])
def test_normalisation_of_0_to_255_is_recognised(mean: Tensor, std: Tensor, beside: bool, plain: bool) -> None:
    kept: dict[str, Any] = {"mean": mean * 255, "std": std * 255}
    if plain and beside:
        kept = {name: value.tolist() for name, value in kept.items()}
    found = unwrap_weights(
        {"state_dict": STATE, **kept}
        if beside
        else {"normalize.mean": kept["mean"], "normalize.std": kept["std"], **STATE}
    )
    assert found.tensors.keys() == STATE.keys()
    assert found.mean is not None and found.std is not None
    assert torch.allclose(found.mean.flatten(), mean)
    assert torch.allclose(found.std.flatten(), std)


def test_normalisation_in_unclear_units_is_ignored() -> None:
    unclear = {"mean": MEAN, "std": STD * 255}, {"mean": MEAN * 255, "std": STD}, {"mean": MEAN * 600, "std": STD * 600}
    for content in (*({**pair, **STATE} for pair in unclear), {"mean": MEAN, **STATE}):
        found = unwrap_weights(content)
        assert found.mean is None
        assert "mean" in found.tensors


def test_two_networks_under_one_name_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"module.conv1.weight and model.conv1.weight"):
        unwrap_weights(prefixed("module.") | prefixed("model."))


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, {"state_dict": {}}, [STATE], torch.ones(3), None])
def test_content_without_a_state_dict_is_refused(content: Any) -> None:
    with pytest.raises(ConfigError, match="state dict"):
        unwrap_weights(content)


def test_digest_covers_names_shapes_types_and_values() -> None:
    base = Weights(STATE, MEAN, STD)
    assert Weights(dict(reversed(STATE.items())), MEAN.clone(), STD).digest == base.digest
    others = [
        Weights(STATE),
        Weights(STATE, STD, MEAN),
        Weights({**STATE, "fc.bias": torch.arange(4.0) + 1}, MEAN, STD),
        Weights({**STATE, "fc.bias": torch.arange(4.0).view(2, 2)}, MEAN, STD),
        Weights({**STATE, "fc.bias": torch.arange(4.0).half()}, MEAN, STD),
        Weights({"conv1.weight": STATE["conv1.weight"], "fc.b": STATE["fc.bias"]}, MEAN, STD),
    ]
    assert len({base.digest, *(other.digest for other in others)}) == len(others) + 1
    assert len(Weights({"a": torch.tensor(1.0, dtype=torch.bfloat16)}).digest) == 16


def test_torch_and_safetensors_have_one_digest(tmp_path: Path) -> None:
    save_file = pytest.importorskip("safetensors.torch", reason="safetensors is not installed").save_file
    torch.save({"state_dict": STATE}, tmp_path / "a.pth")
    torch.save(STATE, tmp_path / "b.pt", _use_new_zipfile_serialization=False)
    save_file(STATE, tmp_path / "c.safetensors")
    found = [unwrap_weights(read_weights_file(tmp_path / name)).digest for name in ("a.pth", "b.pt", "c.safetensors")]
    assert found == [Weights(STATE).digest] * 3


class Surprise:
    """Code that unpickling would run."""


def test_pickled_code_is_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": STATE, "args": Surprise()}, tmp_path / "a.pth")
    with pytest.raises(ConfigError, match=r"state_dict.*torch.save") as caught:
        read_weights_file(tmp_path / "a.pth")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
@pytest.mark.parametrize("content", [b"", b"no weights", b"PK\x03\x04 half a zip"])
def test_damaged_file_is_refused_in_one_line(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_weights_file(tmp_path / name)
    assert "\n" not in str(caught.value)
