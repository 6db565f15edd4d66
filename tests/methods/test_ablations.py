"""Settings behind the papers' claims: one BN, one lam per batch, other losses, finer amplitudes, slimmable PGD-AT."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from distcond.config.overrides import apply_overrides
from distcond.config.schema import Config
from distcond.errors import ConfigError
from distcond.layers.layer_set import noisy_layers
from distcond.layers.noisy import OwnAmplitude
from distcond.methods import oat, robust_bird
from distcond.methods.float import authors_objective
from distcond.methods.step_context import StepContext, StepRandomness
from distcond.methods.trades import kl_divergence
from distcond.models.conditional import AtLambda, ConditionalModel
from distcond.models.plain_network import fold
from distcond.registry import lookup
from distcond.results import history
from distcond.runs.build import build_model, build_step
from distcond.training.build_trainer import check_trainable, stages_of
from distcond.training.flops import count_forwards
from support.groups import quick
from support.networks import close, images, shaken

#: Method and settings of each ablation.
ABLATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "one BN": ("oat", {"method__dual_bn": False}),
    "one BN, slimmable": ("oats", {"method__dual_bn": False}),
    "one lam per batch": ("oat", {"sampler__batchwise": True}),
    "even choices": ("oat", {"method__lam_choices": "0,0.4,0.8,1", "sampler__choices": "0,0.4,0.8,1"}),
    "raw lam": ("oat", {"method__encoding": "none"}),
    "DCT of 16": ("oat", {"method__encoding": "dct", "method__dim": 16}),
    "TRADES": ("oat", {"method__loss": "trades"}),
    "TRADES, slimmable": ("oats", {"method__loss": "trades"}),
    "SOLAR": ("oats", {"method__heads": "per_width"}),
    "authors' FLOAT": ("float", {"method__loss": "authors"}),
    "authors' FLOATS": ("floats", {"method__loss": "authors", "method__dense_noise": True, "method__density": 0.5}),
    "authors' FLOAT slim": ("float_slim", {"method__loss": "authors"}),
    "amplitude per channel": ("float", {"method__alpha_by": "channel"}),
    "amplitude per weight": ("float", {"method__alpha_by": "weight"}),
    "amplitude per channel, slimmable": ("float_slim", {"method__alpha_by": "channel"}),
    "amplitude per weight, sparse": ("floats", {"method__alpha_by": "weight", "method__density": 0.5}),
    "slimmable baseline": ("pgd_at", {"method__width_mults": "1,0.5"}),
    "overlap 0": ("smart", {"method__overlap": 0.0, "method__drop_fraction": 0.0}),
    "adversarial search": ("robust_bird", {"method__search": "pgd"}),
    "fast search": ("robust_bird", {"method__search": "fast"}),
}
N, SHAPE = 12, (12, 3, 8, 8)


def made(tiny: Any, name: str, **settings: Any) -> Config:
    method, own = ABLATIONS[name]
    fast = {"attack__num_steps": 2, "precision__train": "float32", "epochs": 2, "eval__lam_grid": "0,1"}
    found: Config = tiny(method, **fast | own | settings)
    return found


def draws(lam: Tensor) -> StepRandomness:
    return StepRandomness(0, 0, 0, 0, 1, lam.sort().values)


def batch() -> tuple[Tensor, Tensor]:
    return torch.rand(SHAPE, generator=torch.Generator().manual_seed(1)), torch.arange(N) % 10


@pytest.mark.parametrize("name", ABLATIONS)
def test_every_stage_takes_a_step(tiny: Any, name: str) -> None:
    config = made(tiny, name)
    method, model = lookup("method", config.method.name), build_model(config)
    step, sparsity = build_step(config, model, torch.device("cpu")), method.sparsity(config, model)
    lam = lookup("sampler", config.sampler.name).draw(config.sampler, N, torch.Generator().manual_seed(3))
    for stage in stages_of(config, method):
        if sparsity is not None:
            sparsity.start(stage.name)
        step.objective = stage.objective
        outcome = step(*batch(), draws(lam))
        outcome.loss.backward()
        assert outcome.loss.isfinite()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert all(forwards > 0 for forwards in count_forwards(config))


@pytest.mark.parametrize("name", [name for name, (method, _) in ABLATIONS.items() if method != "robust_bird"])
def test_folded_network_is_the_same(tiny: Any, name: str) -> None:
    method, settings = ABLATIONS[name]
    net, x = shaken(tiny, method, **settings, eval__lam_grid="0,1"), images()
    for width in net.width_mults:
        for lam in (0.0, 1.0):
            at = AtLambda(net, lam, width)
            cond = net.condition(lam, width=net.width_index(width), noise=net.draw_noise(0, on="cpu") if lam else None)
            assert close(at(x), net(x, cond))
            assert close(fold(net, lam, width=width)(x), at(x))


@pytest.mark.parametrize("name", quick("slimmable baseline", "one BN", of=[
    "one BN", "one lam per batch", "TRADES", "authors' FLOAT", "amplitude per weight", "slimmable baseline",
    "fast search",
]))  # fmt: skip
def test_ablation_trains_to_its_end(small: Any, whole: Any, name: str) -> None:
    method, settings = ABLATIONS[name]
    path = whole(small(method, **settings, epochs=2, eval__train_examples=0))
    assert all(record["train_loss"] > 0 for record in history.read(path))


def test_one_normalisation_serves_every_lam(tiny: Any) -> None:
    model = build_model(made(tiny, "one BN"))
    assert not model.two_paths
    assert not [name for name in model.state_dict() if ".clean." in name or ".adv." in name]
    with pytest.raises(ConfigError, match=r"^eval.dial=weights: oat has one path"):
        build_model(made(tiny, "one BN", eval__dial="weights"))


def test_rows_of_a_batch_share_one_lam(tiny: Any) -> None:
    config, source = made(tiny, "one lam per batch"), torch.Generator().manual_seed(0)
    draw = lookup("sampler", "fixed_share").draw
    batches = [draw(config.sampler, 8, source) for _ in range(200)]
    assert all(bool((lam == lam[0]).all()) for lam in batches)
    counts = torch.tensor([float(lam[0]) for lam in batches]).unique(return_counts=True)
    assert [round(float(lam), 3) for lam in counts[0]] == [0.0, 0.1, 0.2, 0.3, 0.4, 1.0]
    assert int(counts[1].min()) > 15
    # On average one batch in six has no attack: 3 forward-equivalents an image, 3 + 4 + 3 in the others.
    assert count_forwards(config)[0] == pytest.approx(2 * (3 + 5 * 10) / 6)


def test_batch_of_a_lam_without_code_is_refused(tiny: Any) -> None:
    with pytest.raises(ConfigError, match=r"^sampler=fixed_share draws lam=0\.5"):
        build_model(made(tiny, "one lam per batch", sampler__choices="0,0.1,0.2,0.3,0.4,0.5,1"))


@pytest.mark.parametrize("lam", [0.0, 0.4, 1.0])
def test_divergence_weighs_beta_times_lam(tiny: Any, lam: float) -> None:
    config = made(tiny, "TRADES", method__beta=3.0)
    (x, y), rows = batch(), draws(torch.full((N,), lam))
    model, again = build_model(config).train(), build_model(config).train()
    step = StepContext(model, config.attack, rows, None)
    found = oat.make_objective(config.method)(step, x, y).loss
    wanted = F.cross_entropy(again(x, again.condition(lam)), y)
    if lam:
        x_adv = step.make_adversarial(x, y, rows.all_rows())  # that of the loss, as it is cached
        again = build_model(config).train()
        clean, adversarial = (again(images, again.condition(lam)) for images in (x, x_adv))
        wanted = F.cross_entropy(clean, y) + 3.0 * lam * kl_divergence(adversarial, clean).mean()
        assert not torch.equal(x_adv, x)
    assert found.item() == pytest.approx(wanted.item(), rel=1e-5)


def test_trades_refuses_what_it_cannot_use(tiny: Any) -> None:
    for setting, value in (("attack.random_start", False), ("method.skip_clean_of_adversarial", True)):
        with pytest.raises(ConfigError, match=f"^{setting}={str(value).lower()}: "):
            build_model(apply_overrides(made(tiny, "TRADES"), {setting: value}))


def test_authors_loss_weighs_attacked_rows_by_half(tiny: Any) -> None:
    config = made(tiny, "authors' FLOAT")
    (x, y), rows = batch(), draws(torch.tensor([0.0] * 6 + [1.0] * 6))
    model, again = build_model(config).train(), build_model(config).train()
    step = StepContext(model, config.attack, rows, None)
    found = authors_objective(step, x, y).loss
    clean = torch.cat([path_logits(again, x[:6], route=False), path_logits(again, x[6:], route=True)])
    _, adv = step.split_by_lam()
    x_adv = step.make_adversarial(x[6:], y[6:], adv)
    attacked = again(x_adv, step.condition(adv, "adversarial"))
    losses = [F.cross_entropy(logits, labels) for logits, labels in ((clean, y), (attacked, y[6:]))]
    assert found.item() == pytest.approx((0.5 * losses[0] + 0.25 * losses[1]).item(), rel=1e-5)
    counters = {name: int(value) for name, value in model.state_dict().items() if name.endswith("tracked")}
    assert {count for name, count in counters.items() if ".clean." in name} == {1}
    assert {count for name, count in counters.items() if ".adv." in name} == {2}
    assert statistics(model).equal(statistics(again))


def path_logits(model: ConditionalModel, x: Tensor, *, route: bool) -> Tensor:
    """Without noise, on one path."""
    return model(x, model.condition(float(route))._replace(noise=None))


def statistics(model: ConditionalModel) -> Tensor:
    return torch.cat([value.flatten() for name, value in model.state_dict().items() if "running" in name])


@pytest.mark.parametrize(("by", "shape"), [("layer", ()), ("channel", (4, 1, 1, 1)), ("weight", (4, 3, 3, 3))])
def test_amplitude_has_the_shape_of_its_part(by: Any, shape: tuple[int, ...]) -> None:
    layer: Any = noisy_layers(OwnAmplitude(0.25, by)).conv(3, 4)
    assert tuple(layer.alpha.shape) == shape
    assert torch.equal(layer.alpha, torch.full(shape, 0.25))


def test_shared_amplitude_has_no_finer_parts(tiny: Any) -> None:
    with pytest.raises(ConfigError, match=r"^method.alpha_by=channel: "):
        build_model(made(tiny, "amplitude per channel", method__shared_alpha=True))


def test_baseline_has_a_network_per_width(tiny: Any) -> None:
    config = made(tiny, "slimmable baseline")
    model = build_model(config).eval()
    assert model.width_mults == (1.0, 0.5)
    assert not model.two_paths
    check_trainable(config, 100)
    with pytest.raises(ConfigError, match=r"^method.width_mults=0.5: "):
        build_model(apply_overrides(config, {"method.width_mults": "0.5"}))
    torch.nn.init.ones_(next(p for n, p in model.named_parameters() if "norms.1" in n and n.endswith("bias")))
    wide, narrow = (AtLambda(model, 1.0, width)(images()) for width in (1.0, 0.5))
    assert not close(wide, narrow)


def test_masks_without_drops_keep_their_overlap(small: Any, whole: Any) -> None:
    path = whole(small("smart", **ABLATIONS["overlap 0"][1], epochs=3, eval__train_examples=0))
    found = [record["sparsity"] for record in history.read(path)]
    assert [numbers["overlap"] for numbers in found] == [0.0] * 3
    assert [numbers["density_union"] for numbers in found] == pytest.approx([1.0] * 3, abs=0.01)


@pytest.mark.parametrize(("search", "forwards"), [("standard", 3), ("pgd", 3 + 2 * 5), ("fast", 3 + 2)])
def test_search_trains_as_configured(tiny: Any, search: str, forwards: int) -> None:
    config = made(tiny, "fast search", method__search=search, attack__num_steps=5, attack__epsilon=0.1)
    stage = robust_bird.stages(config)[0]
    model = build_model(config)
    step = StepContext(model.train(), config.attack, draws(torch.ones(N)), None)
    (x, y) = batch()
    stage.objective(step, x, y)
    assert step.spent == {0: forwards * N}
    if search == "fast":
        x_adv = step.make_adversarial(x, y, step.randomness.all_rows())
        assert float((x_adv - x).abs().max()) == pytest.approx(0.1, abs=1e-6)
