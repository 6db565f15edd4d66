"""Masks: created from keys, counted, compared, and refused if they do not fit."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from distcond.errors import ConfigError
from distcond.sparsity.masks import (
    count_kept,
    density,
    fit_saved_masks,
    largest_masks,
    layers_by_weight,
    mask_difference,
    mask_digest,
    random_masks,
)


def weights() -> dict[str, torch.Tensor]:
    return {"a": torch.tensor([3.0, -5.0, 0.5, 1.0]), "b": torch.tensor([[0.1, -4.0], [2.0, 0.0]])}


def test_layers_have_their_names_in_the_state_dict() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))
    assert list(layers_by_weight(model)) == ["0.weight"]
    found = layers_by_weight(model, (nn.Conv2d, nn.Linear))
    assert all(model.state_dict()[name].data_ptr() == layer.weight.data_ptr() for name, layer in found.items())
    assert list(found) == ["0.weight", "2.weight"]


def test_a_model_without_such_layers_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"model: .*Conv2d"):
        layers_by_weight(nn.Linear(2, 2))


def test_largest_is_global_and_exact() -> None:
    masks = largest_masks(weights(), 3)
    assert masks["a"].tolist() == [True, True, False, False]
    assert masks["b"].tolist() == [[False, True], [False, False]]
    assert density(masks) == 3 / 8


def test_random_masks_have_counts_and_follow_the_key() -> None:
    big = {"a": torch.zeros(100), "b": torch.zeros(5, 4, 3, 3)}
    one = random_masks(big, {"a": 10, "b": 90}, 7, "masks")
    assert count_kept(one) == {"a": 10, "b": 90}
    torch.manual_seed(5)
    assert mask_digest(random_masks(big, {"a": 10, "b": 90}, 7, "masks")) == mask_digest(one)
    assert mask_digest(random_masks(big, {"a": 10, "b": 90}, 8, "masks")) != mask_digest(one)


def test_masks_have_the_layout_of_their_weights() -> None:
    weight = torch.zeros(8, 4, 3, 3).to(memory_format=torch.channels_last)
    (mask,) = random_masks({"w": weight}, {"w": 9}, 0).values()
    assert mask.is_contiguous(memory_format=torch.channels_last)
    assert mask_digest({"w": mask}) == mask_digest(random_masks({"w": weight.contiguous()}, {"w": 9}, 0))


def test_difference_is_a_share_of_all_entries() -> None:
    one, other = largest_masks(weights(), 3), largest_masks(weights(), 5)
    assert mask_difference(one, one) == 0
    assert mask_difference(one, other) == 2 / 8


def test_digests_depend_on_names_and_positions() -> None:
    first, second = torch.tensor([True, False]), torch.tensor([False, True])
    found = {mask_digest(masks) for masks in ({"a": first}, {"a": second}, {"b": first}, {"a": first, "b": first})}
    assert len(found) == 4


@pytest.mark.parametrize(
    ("saved", "words"),
    [
        ({"a": torch.ones(4, dtype=torch.bool)}, "b is in one only"),
        ({"a": torch.ones(5, dtype=torch.bool), "b": torch.ones(2, 2, dtype=torch.bool)}, r"a is \(5,\)"),
        ({"a": torch.ones(4), "b": torch.ones(2, 2, dtype=torch.bool)}, "float32"),
    ],
)
def test_masks_of_another_network_are_refused(saved: dict[str, torch.Tensor], words: str) -> None:
    with pytest.raises(ConfigError, match=f"masks .*{words}"):
        fit_saved_masks(saved, weights())
