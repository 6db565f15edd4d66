"""Training FLOPs of a config, against hand-computed numbers and against what a run counts."""

from __future__ import annotations

import json
from typing import Any

import pytest

from distcond.config.overrides import resolve
from distcond.training.flops import count_forwards, forward_flops, forwards_per_image, train_flops
from support.groups import quick

RESNET34 = 2_318_804_992.0  # 2 x 1.159 G multiply-accumulates


@pytest.mark.parametrize(
    ("recipe", "floor"),
    [
        ("standard_digits", 3),
        ("pgd_at_digits", 2 * 7 + 3),
        ("float_digits", 7 + 3),
        ("trades_digits", 2 * 7 + 7),
        ("smart_digits", 7 + 3),
        ("awp_cifar10_resnet18_averaged", 2 * 10 + 3 + 3),
        ("oat_cifar10_resnet34", 3 + (2 * 7 + 3) * 106 / 128),
        ("float_slim_cifar10_resnet34", 10 * (1 + 0.25)),
    ],
)
def test_forwards_per_image_match_the_passes(recipe: str, floor: float) -> None:
    assert forwards_per_image(resolve(recipe, {})) == pytest.approx(floor, rel=2e-3)


def test_forward_flops_match_published_numbers() -> None:
    assert forward_flops(resolve("pgd_at_cifar10_resnet34", {})) == [RESNET34]
    wide, middle, narrow = forward_flops(resolve("oats_cifar10_resnet34", {}))
    assert wide == RESNET34
    assert (middle / wide, narrow / wide) == (pytest.approx(0.75**2, rel=0.01), pytest.approx(0.5**2, rel=0.01))


def test_cost_counts_full_batches_of_all_epochs() -> None:
    config = resolve("pgd_at_cifar10_resnet34", {"epochs": 3})
    assert train_flops(config) == pytest.approx(17 * RESNET34 * (45_000 // 256 * 256) * 3)
    few = resolve("pgd_at_cifar10_resnet34", {"epochs": 3, "train_examples": 1000})
    assert train_flops(few) == pytest.approx(17 * RESNET34 * 768 * 3)


def test_search_stage_is_part_of_the_cost() -> None:
    config = resolve("robust_bird_digits", {"method.search_epochs": 20, "epochs": 30})
    assert count_forwards(config) == [20 * 3 + 30 * 17]
    assert forwards_per_image(config) == pytest.approx((20 * 3 + 30 * 17) / 30)


@pytest.mark.parametrize("method", quick("float", of=["float", "oats", "trades"]))
def test_run_counts_the_same_flops(small: Any, whole: Any, method: str) -> None:
    config = small(method, epochs=2)
    counted = json.loads((whole(config) / "finished.json").read_text())["train_flops"]
    assert counted == pytest.approx(train_flops(config), rel=1e-3)
