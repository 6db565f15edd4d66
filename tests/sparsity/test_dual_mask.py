"""Two masks over one weight: density of each path, overlap, alternating updates, weights outside both."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from distcond.errors import ConfigError
from distcond.layers.masked import MaskedConv2d
from distcond.sparsity.dual_mask import ADV, CLEAN, DualMasks, DualMaskTraining
from distcond.sparsity.masks import count_kept
from distcond.sparsity.update import linear

TOTAL = 3 * 8 * 9 + 8 * 16 * 9 + 16 * 16


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(MaskedConv2d(3, 8), MaskedConv2d(8, 16), MaskedConv2d(16, 16, 1))


def paths(model: nn.Sequential, density: float = 0.3, overlap: float | None = None, seed: int = 0) -> DualMaskTraining:
    two = DualMasks({f"{place}.weight": layer for place, layer in enumerate(model)})
    return DualMaskTraining(two, density, overlap, 0.9, partial(linear, 0.5, 0.0), seed)


def counts(masks: DualMaskTraining, path: bool) -> list[int]:
    return list(count_kept(masks.dual.masks(path)).values())


@pytest.mark.parametrize(
    ("density", "overlap"), [(0.3, 0.0), (0.3, 0.25), (0.3, 1.0), (0.5, 0.0), (0.7, 0.8), (0.7, 2 - 1 / 0.7)]
)
def test_every_layer_meets_the_configured_overlap(density: float, overlap: float) -> None:
    masks = paths(network(), density, overlap)
    masks.start("train")
    clean, adv = masks.dual.masks(CLEAN), masks.dual.masks(ADV)
    assert counts(masks, CLEAN) == counts(masks, ADV)
    assert sum(counts(masks, CLEAN)) == int(density * TOTAL + 0.5)
    for name, mask in clean.items():
        assert int((mask & adv[name]).sum()) == pytest.approx(overlap * int(mask.sum()), abs=1)
    report = masks.report()
    assert report["overlap"] == pytest.approx(overlap, abs=0.01)
    assert report["density"] == report["density_adv"] == pytest.approx(density, abs=1e-3)
    assert report["density_union"] == pytest.approx(density * (2 - overlap), abs=0.005)


def test_without_a_target_the_masks_are_independent() -> None:
    masks = paths(network(), 0.3)
    masks.start("train")
    assert masks.report()["overlap"] == pytest.approx(0.3, abs=0.05)


def test_an_impossible_overlap_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"method.overlap=0.1: .*0.667"):
        paths(network(), 0.75, 0.1)


def test_paths_alternate_and_end_at_equal_layer_densities(bench: Any) -> None:
    model = network()
    masks = paths(model)
    run = bench(model, masks, total=24)
    run.run(0, 3)
    for epoch in range(6):
        before = {path: {n: m.clone() for n, m in masks.dual.masks(path).items()} for path in (CLEAN, ADV)}
        run.run(3 * epoch + 3, 3 * epoch + 4)
        moved = {
            path: any(not torch.equal(m, before[path][n]) for n, m in masks.dual.masks(path).items())
            for path in (CLEAN, ADV)
        }
        assert moved == {CLEAN: epoch % 2 == 0, ADV: epoch % 2 == 1}
        for path in (CLEAN, ADV):
            assert sum(counts(masks, path)) == int(0.3 * TOTAL + 0.5)
        if epoch == 0:
            assert counts(masks, CLEAN) != counts(masks, ADV)
        if epoch % 2:
            assert counts(masks, CLEAN) == counts(masks, ADV)
        run.run(3 * epoch + 4, 3 * epoch + 6)


def test_the_adversarial_path_takes_over_any_layer_densities(bench: Any) -> None:
    """Also where a layer has to lose more than an update would drop."""
    model = network()
    masks = paths(model)
    run = bench(model, masks)
    run.run(0, 6)
    first, second, third = counts(masks, ADV)
    masks.targets = [first + third - 20, second, 20]
    assert third - 20 > 0.5 * third
    run.run(6, 7)
    assert counts(masks, ADV) == masks.targets


def test_densities_follow_the_mean_of_both_paths(bench: Any) -> None:
    found = {}
    for path in (CLEAN, ADV, None):
        model = network()
        masks = paths(model)
        run = bench(model, masks)
        run.run(0, 3)
        if path is not None:
            model[2].dense_gradients[path] *= 1000
        run.run(3, 4)
        found[path] = count_kept(masks.dual.masks(CLEAN))["2.weight"]
    assert found[CLEAN] > 1.5 * found[None]
    assert found[ADV] > 1.5 * found[None]


def test_updates_grow_by_their_own_paths_gradient(bench: Any) -> None:
    model = network()
    masks = paths(model)
    run = bench(model, masks)
    run.run(0, 3)
    old = {name: mask.clone() for name, mask in masks.dual.masks(CLEAN).items()}
    target = ~old["1.weight"] & (torch.arange(9).view(3, 3) == 4)
    model[1].dense_gradients[CLEAN][target] += 100
    model[0].dense_gradients[ADV][~old["0.weight"]] += 1
    run.run(3, 4)
    new = masks.dual.masks(CLEAN)["1.weight"]
    grown = new & ~old["1.weight"]
    assert int((grown & target).sum()) >= min(int(grown.sum()), int(target.sum())) > 0


def test_only_weights_kept_by_neither_are_zeroed(bench: Any) -> None:
    model = network()
    masks = paths(model, overlap=0.5)
    run = bench(model, masks)
    run.run(0, 5)
    for layer in model:
        union = layer.clean_mask | layer.adv_mask
        assert not union.all()
        momentum = run.optimiser.state[layer.weight]["momentum_buffer"]
        assert (layer.weight[~union] == 0).all()
        assert (momentum[~union] == 0).all()
        assert (momentum[union] != 0).any()


def test_dense_gradients_decay_by_the_momentum(bench: Any) -> None:
    model = network()
    masks = paths(model)
    run = bench(model, masks)
    for layer in model:
        layer.dense_gradients[ADV].fill_(1.0)
    masks.after_step(run.optimiser, 0.1, 1)
    masks.after_step(run.optimiser, 0.2, 2)
    assert torch.allclose(model[1].dense_gradients[ADV], torch.tensor(0.81))
    assert (model[1].dense_gradients[CLEAN] == 0).all()


def test_a_resumed_run_ends_as_the_uninterrupted_one(bench: Any, resumes: Any) -> None:
    def make(start: bool) -> Any:
        model = network()
        return bench(model, paths(model), start=start)

    resumes(make, 12)


def test_masks_of_another_network_are_refused() -> None:
    masks, other = paths(network()), paths(nn.Sequential(*network()[:2]))
    with pytest.raises(ConfigError, match=r"masks .*2.weight"):
        other.load_state_dict(masks.state_dict())
