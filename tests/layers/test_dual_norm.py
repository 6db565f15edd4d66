"""Masked dual statistics equal the papers' slice-and-concatenate, for any order and share of rows."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from distcond.layers.condition import Condition, Routing
from distcond.layers.dual_norm import DualBatchNorm2d
from distcond.layers.plain import BatchNorm2d

C = 3


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(n: int, seed: int = 0) -> Tensor:
    return 3 * torch.randn(n, C, 4, 4, generator=seeded(seed)) + 1


def made(cls: type[nn.Module], **options: Any) -> Any:
    """A layer with affine parameters and statistics that are not the starting ones."""
    layer = cls(C, **options)
    for number, tensor in enumerate(layer.state_dict().values()):
        if tensor.is_floating_point():
            tensor.copy_(0.5 + torch.rand(C, generator=seeded(number)))
    return layer


def at(route: Tensor | bool) -> Condition:
    rows = len(route) if isinstance(route, Tensor) else 1
    return Condition(torch.ones(rows), route)


def coefficients(like: Tensor) -> Tensor:
    """Weights of a loss that is not symmetric in rows, channels or places."""
    return torch.randn(like.shape, generator=seeded(9))


def statistics(norm: nn.BatchNorm2d) -> list[Tensor]:
    assert norm.running_mean is not None and norm.running_var is not None
    return [norm.running_mean, norm.running_var]


def close(a: list[Tensor], b: list[Tensor], atol: float = 2e-6) -> bool:
    return all(torch.allclose(x, y, atol=atol, rtol=1e-5) for x, y in zip(a, b, strict=True))


ROUTE = torch.tensor([0, 1, 1, 0, 1, 0, 1], dtype=torch.bool)


def test_masked_statistics_are_those_of_the_slices() -> None:
    layer, x = made(DualBatchNorm2d), images(7).requires_grad_()
    clean, adv = made(DualBatchNorm2d).clean, made(DualBatchNorm2d).adv
    reference = images(7).requires_grad_()
    for _ in range(3):
        out = layer(x, at(ROUTE))
        wanted = torch.empty_like(out)
        wanted[~ROUTE], wanted[ROUTE] = clean(reference[~ROUTE]), adv(reference[ROUTE])
    assert torch.allclose(out, wanted, atol=1e-5)
    assert close(statistics(layer.clean) + statistics(layer.adv), statistics(clean) + statistics(adv))
    found = torch.autograd.grad((out * coefficients(out)).sum(), [x, *layer.parameters()])
    sliced = [reference, *clean.parameters(), *adv.parameters()]
    assert close(list(found), list(torch.autograd.grad((wanted * coefficients(out)).sum(), sliced)), 2e-5)


def test_the_order_of_rows_does_not_matter() -> None:
    order = torch.randperm(7, generator=seeded(4))
    one, other = made(DualBatchNorm2d), made(DualBatchNorm2d)
    assert torch.allclose(one(images(7), at(ROUTE))[order], other(images(7)[order], at(ROUTE[order])), atol=1e-5)
    assert close(statistics(one.clean) + statistics(one.adv), statistics(other.clean) + statistics(other.adv))


@pytest.mark.parametrize("clean_rows", range(8))
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_slicing_ordered_rows_gives_the_same_result(clean_rows: int, training: bool, dtype: torch.dtype) -> None:
    route = torch.arange(7) >= clean_rows
    x, results = images(7).to(dtype).requires_grad_(), []
    for split in (None, clean_rows):
        layer = made(DualBatchNorm2d).train(training)
        for _ in range(2):
            out = layer(x, at(route)._replace(split=split))
        grads = torch.autograd.grad((out.float() * coefficients(out.float())).sum(), [x, *layer.parameters()])
        buffers = statistics(layer.clean) + statistics(layer.adv)
        results.append((out, list(grads), buffers))
    (masked, masked_grads, masked_buffers), (sliced, sliced_grads, sliced_buffers) = results
    assert sliced.dtype == dtype
    atol = 2e-5 if dtype == torch.float32 else 0.05
    assert torch.allclose(sliced, masked, atol=atol)
    assert close(sliced_buffers, masked_buffers, atol / 10)
    assert close([grad.float() for grad in sliced_grads], [grad.float() for grad in masked_grads], 4 * atol)


def test_sorted_rows_never_use_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DualBatchNorm2d, "_normalise_masked", None)
    cond = Routing().at(torch.tensor([0.0, 0.0, 0.3, 0.5, 1.0]))
    assert made(DualBatchNorm2d)(images(5), cond).isfinite().all()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("route", [True, False])
def test_one_route_equals_that_route_per_row(route: bool, training: bool) -> None:
    whole, rows = made(DualBatchNorm2d).train(training), made(DualBatchNorm2d).train(training)
    out = whole(images(6), at(route))
    assert torch.allclose(out, rows(images(6), at(torch.full((6,), route))), atol=1e-5)
    assert close(statistics(whole.clean) + statistics(whole.adv), statistics(rows.clean) + statistics(rows.adv))
    other = whole.clean if route else whole.adv
    assert close(statistics(other), statistics(made(DualBatchNorm2d).clean if route else made(DualBatchNorm2d).adv), 0)


def test_eval_uses_running_statistics_of_each_rows_route() -> None:
    layer = made(DualBatchNorm2d).eval()
    out = layer(images(7), at(ROUTE))
    assert torch.allclose(out[ROUTE], layer.adv(images(7)[ROUTE]), atol=1e-5)
    assert torch.allclose(out[~ROUTE], layer.clean(images(7)[~ROUTE]), atol=1e-5)
    scale, shift = layer.as_affine(at(True))
    assert torch.allclose(out[ROUTE], images(7)[ROUTE] * scale[:, None, None] + shift[:, None, None], atol=1e-5)


@pytest.mark.parametrize("route", [[1, 1, 1, 1], [1, 1, 0, 1], [0, 0, 0, 0], [0, 1, 0, 0]])
def test_small_groups_keep_statistics_and_give_parameters_gradients(route: list[int]) -> None:
    layer, start = made(DualBatchNorm2d), made(DualBatchNorm2d)
    few, many = ("clean", "adv") if sum(route) > 1 else ("adv", "clean")
    out = layer(images(4), at(torch.tensor(route, dtype=torch.bool)))
    assert out.isfinite().all()
    assert close(statistics(getattr(layer, few)), statistics(getattr(start, few)), 0)
    assert not close(statistics(getattr(layer, many)), statistics(getattr(start, many)), 1e-3)
    (out * coefficients(out)).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in layer.parameters())


@pytest.mark.parametrize("rows", [0, 1])
@pytest.mark.parametrize("route", [True, False])
def test_passes_of_one_row_leave_statistics_alone(rows: int, route: bool) -> None:
    layer, start = made(DualBatchNorm2d), made(DualBatchNorm2d)
    out = layer(images(rows), at(route))
    assert out.shape == (rows, C, 4, 4)
    assert close(statistics(layer.clean) + statistics(layer.adv), statistics(start.clean) + statistics(start.adv), 0)
    out.sum().backward()
    assert all(parameter.grad is not None for parameter in layer.parameters())


def test_reduced_precision_passes_through_with_float32_statistics() -> None:
    out = made(DualBatchNorm2d)(images(7).bfloat16(), at(ROUTE))
    assert out.dtype == torch.bfloat16
    assert torch.allclose(out.float(), made(DualBatchNorm2d)(images(7).bfloat16().float(), at(ROUTE)), atol=0.02)


def one_rank(rank: int, world: int, kind: str, rows: Tensor, route: Any) -> dict[str, list[Tensor]]:
    """Outputs, running statistics and gradients of this rank's rows."""
    layer = made(DualBatchNorm2d if kind == "dual" else BatchNorm2d, shared=True)
    mine = slice(rank, None, world)
    x = rows[mine].clone().requires_grad_()
    for _ in range(2):
        out = layer(x, at(route[mine] if isinstance(route, Tensor) else route))
    grads = torch.autograd.grad(
        (out * coefficients(rows)[mine]).sum(), [x, *layer.parameters()], allow_unused=True, materialize_grads=True
    )
    buffers = [tensor for tensor in layer.buffers() if tensor.is_floating_point()]
    return {"out": [out.detach()], "buffers": buffers, "grads": list(grads)}


@pytest.mark.parametrize(
    ("kind", "rows", "route"),
    [
        ("dual", 7, ROUTE),
        ("dual", 6, torch.tensor([0, 1, 0, 1, 0, 1], dtype=torch.bool)),  # each rank sees one kind only
        ("dual", 3, torch.tensor([0, 1, 0], dtype=torch.bool)),  # one attacked row in all
        ("dual", 6, True),
        ("dual", 2, False),  # one row a rank
        ("plain", 5, True),
    ],
)
def test_statistics_shared_by_two_processes_equal_one(
    run_ranks: Any, kind: str, rows: int, route: Tensor | bool
) -> None:
    x = images(rows)
    alone = one_rank(0, 1, kind, x, route)
    found = run_ranks(one_rank, 2, kind, x, route)
    for rank, result in enumerate(found):
        assert close(result["out"], [alone["out"][0][rank::2]], 1e-5)
        assert close(result["buffers"], alone["buffers"])
        assert close(result["grads"][:1], [alone["grads"][0][rank::2]], 1e-5)
    summed = [sum(parts) for parts in zip(*(result["grads"][1:] for result in found), strict=True)]
    assert close(summed, alone["grads"][1:], 1e-5)


def test_shared_statistics_of_one_process_equal_torch() -> None:
    reference = made(DualBatchNorm2d).adv
    out = one_rank(0, 1, "dual", images(6), True)
    for _ in range(2):
        wanted = reference(images(6))
    assert torch.allclose(out["out"][0], wanted, atol=1e-5)
    assert close(out["buffers"][2:], statistics(reference))
