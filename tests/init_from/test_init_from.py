"""init_from: which tensors are copied, what is reported, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from distcond.config.schema import Config
from distcond.errors import ConfigError
from distcond.init_from.initialise import check_init_from, copy_weights_into
from distcond.init_from.report import InitReport
from distcond.models.conditional import AtLambda, ConditionalModel
from distcond.models.tensor_roles import role_of
from distcond.registry import table
from distcond.runs.build import build_model
from support.groups import quick

MASKS = (".mask", "_mask")


def trained_network(config: Config) -> ConditionalModel:
    """The network of a config with all tensors changed, as by training."""
    model = build_model(config)
    with torch.no_grad():
        for value in [*model.parameters(), *model.buffers()]:
            if value.is_floating_point():
                value.copy_(torch.rand_like(value) * 0.5 + 0.5)
            elif value.dtype == torch.int64:
                value.fill_(7)
    return model


def save_network(tiny: Any, file: Path, method: str, **settings: Any) -> ConditionalModel:
    torch.manual_seed(1)
    model = trained_network(tiny(method, **settings))
    torch.save(model.state_dict(), file)
    return model


def initialise_network(config: Config) -> tuple[ConditionalModel, InitReport]:
    model = build_model(config)
    return model, copy_weights_into(model, config)


@pytest.mark.parametrize("method", table("method"))
def test_same_method_is_loaded_exactly(tiny: Any, tmp_path: Path, method: str) -> None:
    wanted = save_network(tiny, tmp_path / "a.pth", method).state_dict()
    model, report = initialise_network(tiny(method, seed=5, init_from=str(tmp_path / "a.pth")))
    own = ("encode.choices", "encode.table")  # encodings of lam are not copied
    for name, value in model.state_dict().items():
        assert torch.equal(value, wanted[name]) or name.endswith((*MASKS, *own)), name
    assert report.record["fresh"] == []
    assert all(name.endswith(own) for name in report.record["unused"])
    assert report.record["normalisation"].startswith("normalisation adopted")


def test_shared_alpha_starts_at_the_mean(tiny: Any, tmp_path: Path) -> None:
    source = save_network(tiny, tmp_path / "a.pth", "float").state_dict()
    own = torch.stack([value for name, value in source.items() if name.endswith(".alpha")])
    assert own.unique().numel() > 1
    model, _ = initialise_network(tiny("float", method__shared_alpha=True, init_from=str(tmp_path / "a.pth")))
    found = [value for name, value in model.state_dict().items() if name.endswith(".alpha")]
    assert all(torch.equal(value, own.mean()) for value in found)


@pytest.mark.parametrize(
    ("method", "model"),
    [*((name, "small_cnn") for name in table("method")), *(("oats", name) for name in table("model"))],
)
def test_plain_network_fits_every_method_and_model(tiny: Any, tmp_path: Path, method: str, model: str) -> None:
    plain = save_network(tiny, tmp_path / "a.pth", "standard", model=model)
    theirs = plain.backbone.state_dict()
    net, report = initialise_network(tiny(method, model, init_from=str(tmp_path / "a.pth")))
    for name, value in net.backbone.state_dict().items():
        role = role_of(name).role
        if role in theirs:
            part = theirs[role][tuple(slice(size) for size in value.shape)]
            assert torch.equal(value, part), name
    roles = {role_of(name).role for name in net.backbone.state_dict()}
    assert set(theirs) <= roles
    assert report.record["unused"] == []
    assert all(name.endswith(".alpha") or ".modulate." in name for name in report.record["fresh"])
    if method in ("oat", "oats"):
        assert "FiLM starts fresh" in report.summary


@pytest.mark.parametrize("method", table("method"))
@pytest.mark.parametrize("source", quick("oats", of=["floats", "oats", "smart"]))
def test_any_method_starts_from_any_other(tiny: Any, tmp_path: Path, source: str, method: str) -> None:
    origin = save_network(tiny, tmp_path / "a.pth", source)
    net, _ = initialise_network(tiny(method, init_from=str(tmp_path / "a.pth")))
    theirs = {role_of(name): value for name, value in origin.backbone.state_dict().items()}
    for name, value in net.backbone.state_dict().items():
        place = role_of(name)
        if name.endswith(MASKS) or place.role.endswith((".alpha", "num_batches_tracked")) or ".modulate." in name:
            continue
        route = method != "standard" if place.route is None else place.route
        found = [theirs[at] for at in theirs if at.role == place.role and at.route in (None, route)]
        assert any(
            each.shape >= value.shape and torch.equal(value, each[tuple(slice(n) for n in value.shape)])
            for each in found
        ), name


def test_narrower_width_gets_its_own_statistics(tiny: Any, tmp_path: Path) -> None:
    origin = save_network(tiny, tmp_path / "a.pth", "float_slim", method__width_mults="1,0.5").state_dict()
    net, _ = initialise_network(tiny("float_slim", init_from=str(tmp_path / "a.pth"), method__width_mults="1,0.75,0.5"))
    one, between, half = (
        net.state_dict()[f"backbone.units.1.norm.norms.{width}.adv.running_var"] for width in range(3)
    )
    wide, narrow = (origin[f"backbone.units.1.norm.norms.{width}.adv.running_var"] for width in range(2))
    assert torch.equal(one, wide)
    assert torch.equal(between, wide[:3])
    assert torch.equal(half, narrow)
    assert not torch.equal(half, wide[:2])


@pytest.mark.parametrize(("method", "lam"), [("float", 0.0), ("oat", 0.4), ("smart", 1.0), ("float_slim", 0.0)])
def test_function_is_preserved(tiny: Any, tmp_path: Path, method: str, lam: float) -> None:
    more = {"oat": {"method__identity_start": True}, "smart": {"method__density": 1}}.get(method, {})
    plain, x = save_network(tiny, tmp_path / "a.pth", "pgd_at").eval(), torch.rand(4, 3, 8, 8)
    net, report = initialise_network(tiny(method, init_from=str(tmp_path / "a.pth"), **more))
    assert "FiLM starts fresh" not in report.summary
    with torch.no_grad():
        assert torch.allclose(AtLambda(net.eval(), lam)(x), AtLambda(plain, 1.0)(x), rtol=1e-5, atol=1e-5)


def test_other_class_count_resets_the_classifier(tiny: Any, tmp_path: Path) -> None:
    net = save_network(tiny, tmp_path / "a.pth", "pgd_at")
    state = net.state_dict() | {
        "backbone.linear.weight": torch.rand(1000, 8),
        "backbone.linear.bias": torch.rand(1000),
        "backbone.extra.weight": torch.rand(3),
    }
    torch.save(state, tmp_path / "a.pth")
    for method, heads in (("float", ["linear"]), ("oats", ["linear.heads.0", "linear.heads.1"])):
        more = {"method__heads": "per_width", "method__width_mults": "1,0.5"} if method == "oats" else {}
        config = tiny(method, seed=2, init_from=str(tmp_path / "a.pth"), **more)
        model, report = initialise_network(config)
        fresh = build_model(config).backbone.state_dict()
        for head in heads:
            assert torch.equal(model.backbone.state_dict()[f"{head}.weight"], fresh[f"{head}.weight"])
            assert f"{head}.weight" in report.record["fresh"]
        there = {
            "linear.weight": {"there": (1000, 8), "here": (10, 8)},
            "linear.bias": {"there": (1000,), "here": (10,)},
        }
        assert report.record["other_shapes"] == there
        assert "the classifier starts fresh: linear.weight is (1000, 8) there and (10, 8) here" in report.summary
        assert set(report.record["unused"]) == {"linear.weight", "linear.bias", "extra.weight"}


def test_normalisation_is_adopted_or_reported_missing(tiny: Any, tmp_path: Path) -> None:
    model = build_model(tiny("pgd_at"))
    state: dict[str, Tensor] = dict(model.backbone.state_dict())
    torch.save(state, tmp_path / "none.pth")
    torch.save(
        state | {"mu": torch.tensor([0.1, 0.2, 0.3]), "sigma": torch.full((1, 3, 1, 1), 0.5)}, tmp_path / "a.pth"
    )
    found, report = initialise_network(tiny("float", init_from=str(tmp_path / "none.pth")))
    assert torch.equal(found.mean, model.mean)
    assert "no normalisation, the data set's is kept (mean 0.3048" in report.summary
    found, report = initialise_network(tiny("float", init_from=str(tmp_path / "a.pth")))
    assert found.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert found.std.flatten().tolist() == [0.5] * 3
    assert "normalisation adopted: mean 0.1,0.2,0.3 std 0.5,0.5,0.5, not mean 0.3048" in report.summary


def refusal(config: Config) -> str:
    with pytest.raises(ConfigError) as caught:
        check_init_from(config)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_mismatch_suggests_a_model(tiny: Any, tmp_path: Path) -> None:
    file = str(tmp_path / "a.pth")
    resnet20 = build_model(tiny("pgd_at", "resnet20", model__depths="3,3,3", model__widths="16,32,64"))
    torch.save(resnet20.state_dict(), file)
    text = refusal(tiny("float", "resnet18", init_from=file))
    assert text.startswith(f"init_from={file}: ") and "stem.conv.weight is (16, 3, 3, 3) there" in text
    assert "model=resnet20" in text
    deeper = {"model__depths": "3,3,2", "model__widths": "16,32,64"}
    text = refusal(tiny("float", "resnet20", init_from=file, **deeper))
    assert "blocks.8.unit1.conv.weight (19 of 19 " in text
    text = refusal(tiny("float", "resnet20", init_from=file, **{**deeper, "model__depths": "3,3,4"}))
    assert "blocks.9.unit1.conv.weight (21 of 23 " in text
    torch.save(nn.Sequential(nn.Conv2d(3, 5, 3)).state_dict(), file)
    text = refusal(tiny("float", init_from=file))
    assert "2 names" in text and text.count("model=") == 1  # no other fits


def test_mismatch_suggests_a_stem(tiny: Any, tmp_path: Path) -> None:
    large = build_model(tiny("pgd_at", "resnet18", model__stem="large"))
    torch.save(large.state_dict(), tmp_path / "a.pth")
    text = refusal(tiny("float", "resnet18", init_from=str(tmp_path / "a.pth")))
    assert "stem.conv.weight is (4, 3, 7, 7) there and (4, 3, 3, 3) here" in text
    assert "model=resnet18 model.stem=large" in text


def test_missing_or_empty_source_is_refused(tiny: Any, tmp_path: Path) -> None:
    assert "missing.pth: " in refusal(tiny("float", init_from=str(tmp_path / "missing.pth")))
    assert "without checkpoints" in refusal(tiny("float", init_from=str(tmp_path)))
    (tmp_path / "checkpoints").mkdir()
    assert "no checkpoint" in refusal(tiny("float", init_from=str(tmp_path)))
    torch.save({"epoch": 3}, tmp_path / "a.pth")
    assert "epoch" in refusal(tiny("float", init_from=str(tmp_path / "a.pth")))
    assert check_init_from(tiny("float")) is None
