"""A config becomes a model and a training step."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from distcond.config.schema import Config
from distcond.data.described import described
from distcond.engine.grid import operating_points
from distcond.engine.precision import autocast_dtype, memory_format
from distcond.methods.method import Method
from distcond.methods.train_step import TrainStep
from distcond.models.conditional import ConditionalModel
from distcond.models.model import Model
from distcond.registry import lookup
from distcond.seeding import key


def build_model(config: Config) -> ConditionalModel:
    """The network of a run with its initial weights, a function of `config.seed`; on the CPU, in train mode.

    Raises:
        ConfigError: settings that do not fit each other, among them a sweep at a lam the method has no network for.
    """
    method: Method = lookup("method", config.method.name)
    method.lam_grid(config)
    operating_points(config)
    encode, width_mults = method.encode(config.method), method.widths(config.method)
    network: Model = lookup("model", config.model.name)
    dataset = described(config.data)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key(config.seed, "weights"))
        layers = method.layers(config.method, config.shared_statistics)
        backbone = network.build(layers, dataset.num_classes, config.model)
    routing = method.routing(config.method)
    return ConditionalModel(backbone, dataset.mean, dataset.std, routing, encode, width_mults)


def _laid_out(like: Tensor, grad: Tensor) -> Tensor:
    """The gradient with the strides of its parameter, `like`: DDP keeps it so, and warns of a copy otherwise.

    A 1x1 kernel is laid out alike in both memory formats, and its gradient has the strides of either.
    """
    return (
        grad
        if grad.stride() == like.stride()
        else torch.empty_strided(like.size(), like.stride(), dtype=grad.dtype, device=grad.device).copy_(grad)
    )


def build_step(config: Config, model: ConditionalModel, device: torch.device) -> TrainStep:
    """The training step of a run on `device`, in its number format and memory layout."""
    method: Method = lookup("method", config.method.name)
    model.to(device=device, memory_format=memory_format(config.precision, device))  # type: ignore[call-overload]
    for parameter in model.parameters():
        if parameter.dim() == 4 and parameter.requires_grad:
            parameter.register_hook(partial(_laid_out, torch.empty_like(parameter.detach(), device="meta")))
    autocast = autocast_dtype(config.precision, device)
    objective = method.objective(config.method)
    return TrainStep(
        model, objective, config.attack, autocast, config.precision.fold_attack, config.label_smoothing,
        config.optim.awp_gamma,
    )  # fmt: skip
