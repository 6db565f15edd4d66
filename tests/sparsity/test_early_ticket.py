"""The search ends exactly when the newest mask is close to each of the four before it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from distcond.sparsity.early_ticket import EarlyTicket
from distcond.sparsity.masked_weights import MaskedWeights
from distcond.sparsity.masks import count_kept, layers_by_weight

SIZE = 100


def network() -> nn.Sequential:
    """A convolution of 100 weights, the later the larger, and a linear layer."""
    model = nn.Sequential(nn.Conv2d(10, 10, 1, bias=False), nn.Linear(10, 2, bias=False))
    order(model, 0)
    return model


def order(model: nn.Sequential, shift: int) -> None:
    """The 20 largest weights are those from `shift` on: two masks differ in 2 entries per shift between them."""
    values = torch.arange(SIZE, 0, -1).float().roll(shift)
    with torch.no_grad():
        model[0].weight.copy_(values.view(10, 10, 1, 1))
        model[1].weight.copy_(1000.0 + torch.arange(20).view(2, 10))


def search(model: nn.Sequential, **settings: Any) -> EarlyTicket:
    searched = {name: layer.weight for name, layer in layers_by_weight(model).items()}
    masked = MaskedWeights(layers_by_weight(model, (nn.Conv2d, nn.Linear)))
    ticket = EarlyTicket(searched, masked, 0.2, "search", **settings)
    ticket.start("search")
    return ticket


def epochs(ticket: EarlyTicket, model: nn.Sequential, shifts: list[int]) -> list[bool]:
    found = []
    for shift in shifts:
        order(model, shift)
        found.append(ticket.after_epoch({}, torch.optim.SGD(model.parameters(), 0.1)))
    return found


def test_five_masks_are_needed_even_if_equal() -> None:
    model = network()
    assert epochs(search(model), model, [0] * 6) == [False] * 4 + [True] * 2


def test_distance_equal_to_tolerance_is_near_enough() -> None:
    model = network()
    ticket = search(model)
    # The newest is 4, 3, 2 and 1 shifts from the others: 0.08, 0.06, 0.04, 0.02.
    assert epochs(ticket, model, [0, 1, 2, 3, 4]) == [False] * 4 + [True]
    report = ticket.report()
    assert [report[f"distance_{place}"] for place in range(4)] == pytest.approx([0.08, 0.06, 0.04, 0.02])
    assert (report["found"], report["density"]) == (1.0, 1.0)


@pytest.mark.parametrize("odd", range(4))
def test_one_mask_too_far_continues_the_search(odd: int) -> None:
    model = network()
    shifts = [5 if place == odd else 0 for place in range(4)] + [0]
    assert epochs(search(model), model, shifts)[-1] is False
    model = network()
    shifts = [4 if place == odd else 0 for place in range(4)] + [0]
    assert epochs(search(model), model, shifts)[-1] is True


def test_only_the_last_four_are_compared() -> None:
    model = network()
    assert epochs(search(model), model, [50, 0, 0, 0, 0, 0])[-2:] == [False, True]


def test_queue_and_tolerance_are_settings() -> None:
    model = network()
    assert epochs(search(model, queue_length=2, tolerance=0.02), model, [0, 2, 3]) == [False, False, True]


def test_tickets_keep_the_largest_over_all_layers(bench: Any) -> None:
    model = network()
    ticket = search(model)
    order(model, 3)
    before = model[0].weight.detach().clone()
    ticket.start("train")
    # 24 of 120; all 20 of the linear layer are larger than any of the convolution's.
    assert count_kept(ticket.masked.masks) == {"0.weight": 4, "1.weight": 20}
    assert model[0].weight.flatten()[3:7].tolist() == [100.0, 99.0, 98.0, 97.0]
    assert torch.equal(model[0].weight, before * ticket.masked.masks["0.weight"])
    assert ticket.report()["density"] == 0.2
    masks = {name: mask.clone() for name, mask in ticket.masked.masks.items()}
    run = bench(model, ticket, start=False)
    run.run(0, 6)
    for name, weight in ticket.masked.weights.items():
        assert torch.equal(ticket.masked.masks[name], masks[name])
        assert torch.equal(weight != 0, masks[name])
        assert (run.optimiser.state[weight]["momentum_buffer"][~masks[name]] == 0).all()


def test_the_search_trains_dense(bench: Any) -> None:
    model = network()
    ticket = search(model)
    bench(model, ticket, start=False).run(0, 2)
    assert all((weight != 0).all() for weight in ticket.masked.weights.values())


@pytest.mark.parametrize("stage", ["search", "train"])
def test_a_resumed_run_ends_as_the_uninterrupted_one(bench: Any, resumes: Any, stage: str) -> None:
    def make(start: bool) -> Any:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Linear(8, 4))
        ticket = search(model)
        if start:
            ticket.start(stage)
        return bench(model, ticket, start=False)

    resumes(make, 12)
