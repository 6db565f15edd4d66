"""What holds for every method: a finite step, gradients everywhere, ranks that add up to one, in any number format."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from distcond.config.schema import Config
from distcond.distributed.world import World
from distcond.methods.step_context import StepRandomness
from distcond.methods.train_step import TrainStep
from distcond.registry import lookup
from distcond.runs.build import build_model, build_step
from distcond.training.build_trainer import stages_of, wrap_ddp
from support.groups import quick, trained

N = 12
Y = torch.arange(N) % 10


def images() -> Tensor:
    x = torch.rand(N, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return x.contiguous(memory_format=torch.channels_last)


def draws_of(config: Config, rank: int = 0, world: int = 1, step: int = 0) -> StepRandomness:
    lam = lookup("sampler", config.sampler.name).draw(config.sampler, N, torch.Generator().manual_seed(0))
    return StepRandomness(0, 0, step, rank, world, lam.sort().values)


def step_of(config: Config) -> TrainStep:
    """The step of a config's last stage, its masks in place."""
    model = build_model(config)
    step, method = build_step(config, model, torch.device("cpu")), lookup("method", config.method.name)
    stages, sparsity = stages_of(config, method), method.sparsity(config, model)
    for stage in stages:
        if sparsity is not None:
            sparsity.start(stage.name)
    step.objective = stages[-1].objective
    return step


@pytest.fixture
def config(tiny: Any) -> Callable[..., Config]:
    def made(method: str, **settings: Any) -> Config:
        fast = {
            "attack__num_steps": 2,
            "precision__train": "float32",
            "eval__lam_grid": "0,1",
            "eval__every": 1,
            "epochs": 2,
        }
        found: Config = tiny(method, **fast | settings)
        return found

    return made


def gradients(step: nn.Module) -> dict[str, Tensor]:
    named = {name.removeprefix("module."): parameter.grad for name, parameter in step.named_parameters()}
    without = [name for name, grad in named.items() if grad is None]
    assert without == []
    return {name: grad.clone() for name, grad in named.items() if grad is not None}


@pytest.mark.parametrize("method", trained())
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_steps_are_finite_and_reach_every_parameter(config: Any, method: str, precision: str) -> None:
    chosen = config(method, precision__train=precision)
    step = step_of(chosen)
    loss, counts = step(images(), Y, draws_of(chosen))
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    assert counts[1] + counts[3] >= N
    assert (counts[[0, 2]] <= counts[[1, 3]]).all()
    loss.backward()
    assert all(grad.isfinite().all() for grad in gradients(step).values())


@pytest.mark.parametrize("method", trained())
def test_reduced_precision_gradients_agree(config: Any, method: str) -> None:
    found = []
    for precision in ("float32", "bf16"):
        # No attack: its signs amplify rounding.
        chosen = config(method, precision__train=precision, attack__num_steps=0)
        step = step_of(chosen)
        step(images(), Y, draws_of(chosen)).loss.backward()
        found.append(torch.cat([grad.flatten() for grad in gradients(step).values()]))
    assert torch.cosine_similarity(found[0], found[1], dim=0) > 0.97


@pytest.mark.parametrize("method", trained())
def test_a_step_is_a_function_of_its_draws(config: Any, method: str) -> None:
    chosen = config(method)
    torch.manual_seed(1)
    one = step_of(chosen)(images(), Y, draws_of(chosen)).loss
    torch.manual_seed(2)
    assert torch.equal(one, step_of(chosen)(images(), Y, draws_of(chosen)).loss)
    if method != "standard":
        assert not torch.equal(one, step_of(chosen)(images(), Y, draws_of(chosen, step=1)).loss)


def on_rank(rank: int, world: int, config: Config) -> dict[str, Any]:
    """One step of one rank: its share of the loss, its reduced gradients, its running statistics and its counts."""
    step = step_of(config)
    mine = slice(rank, None, world)
    wrapped = wrap_ddp(step, World(rank, world))
    loss, counts = wrapped(images()[mine], Y[mine], draws_of(config, rank, world))
    loss.backward()
    buffers = {name: tensor for name, tensor in step.named_buffers() if tensor.is_floating_point()}
    return {"loss": loss.detach(), "counts": counts, "grads": gradients(wrapped), "buffers": buffers}


@pytest.mark.parametrize("method", quick("float", "oats", "robust_bird", of=trained()))
def test_two_ranks_sharing_statistics_equal_one_rank(config: Any, run_ranks: Any, method: str) -> None:
    chosen = config(method, shared_statistics=True)
    alone, ranks = on_rank(0, 1, chosen), run_ranks(on_rank, 2, chosen)
    mean_loss = sum(found["loss"] for found in ranks) / 2
    assert torch.allclose(mean_loss, alone["loss"], atol=1e-5)
    assert torch.equal(sum(found["counts"] for found in ranks), alone["counts"])
    for found in ranks:
        for kind in ("grads", "buffers"):
            for name, wanted in alone[kind].items():
                assert torch.allclose(found[kind][name], wanted, atol=1e-5), name


def steps_on_rank(rank: int, world: int, config: Config) -> dict[str, Any]:
    """Two steps under DDP: how many gradient elements were sent at each, and the gradients of the last."""
    step = step_of(config)
    wrapped = wrap_ddp(step, World(rank, world))
    sent: list[int] = []

    def counted(state, bucket):  # type: ignore[no-untyped-def]  # DDP refuses annotations that are strings
        state.append(bucket.buffer().numel())
        reduced = dist.all_reduce(bucket.buffer(), async_op=True).get_future()
        return reduced.then(lambda future: future.value()[0] / world)

    wrapped.register_comm_hook(sent, counted)
    totals = []
    for number in range(3):
        sent.clear()
        wrapped.zero_grad(set_to_none=True)
        mine = slice(rank, None, world)
        wrapped(images()[mine], Y[mine], draws_of(config, rank, world, number)).loss.backward()
        totals.append(sum(sent))
    return {"sent": totals, "grads": gradients(wrapped), "elements": sum(p.numel() for p in step.parameters())}


@pytest.mark.parametrize("method", quick("float", "oats", "robust_bird", of=trained()))
def test_every_gradient_element_is_reduced_once_a_step(config: Any, run_ranks: Any, method: str) -> None:
    first, second = run_ranks(steps_on_rank, 2, config(method))
    assert first["sent"] == second["sent"] == [first["elements"]] * 3
    assert all(torch.equal(grad, second["grads"][name]) for name, grad in first["grads"].items())


@pytest.mark.parametrize("lam", [0.0, 1.0])
def test_ranks_accept_batches_of_one_kind_of_row(config: Any, run_ranks: Any, lam: float) -> None:
    # Half of the normalisations, and at lam = 0 the noise amplitudes, take no part in such a step.
    found = run_ranks(steps_on_rank, 2, config("float", sampler="fixed", sampler__lam=lam))
    assert found[0]["sent"] == found[1]["sent"]


def test_ranks_without_rows_take_part(config: Any, run_ranks: Any) -> None:
    # 12 rows, one of them clean: of two ranks only the first has it.
    found = run_ranks(steps_on_rank, 2, config("float", sampler__share=1 / 12))
    assert found[0]["sent"] == found[1]["sent"] == [found[0]["elements"]] * 3
