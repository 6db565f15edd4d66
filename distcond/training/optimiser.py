"""SGD and its learning-rate schedule. The rate is a pure function of the step, so a checkpoint holds no schedule."""

from __future__ import annotations

import math

import torch
from torch import nn

from distcond.config.schema import OptimConfig


def make_optimiser(model: nn.Module, optim: OptimConfig) -> torch.optim.SGD:
    """SGD over every parameter; those whose name ends in one of `optim.no_decay` get no weight decay."""
    decayed: list[nn.Parameter] = []
    exempt: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        (exempt if optim.no_decay and name.endswith(optim.no_decay) else decayed).append(parameter)
    groups = [{"params": decayed, "weight_decay": optim.weight_decay}, {"params": exempt, "weight_decay": 0.0}]
    return torch.optim.SGD(
        [group for group in groups if group["params"]], lr=optim.lr, momentum=optim.momentum, nesterov=optim.nesterov
    )


def learning_rate(optim: OptimConfig, epoch: int, step: int, steps: int, epochs: int) -> float:
    """The learning rate at `step` of `steps` in `epoch` of `epochs`, all counted from 0.

    cosine and multistep change once per epoch, as in the papers' code; onecycle and the warm-up change every step.
    """
    done = (epoch * steps + step) / (epochs * steps)
    if optim.schedule == "onecycle":
        return optim.lr * _one_cycle(done, optim.warmup or 0.3)
    if done < optim.warmup:
        return optim.lr * min(1.0, (done + 1 / (epochs * steps)) / optim.warmup)
    if optim.schedule == "cosine":
        return optim.lr * 0.5 * (1 + math.cos(math.pi * epoch / epochs))
    if optim.schedule == "multistep":
        return optim.lr * optim.drop_factor ** sum(epoch / epochs >= milestone for milestone in optim.milestones)
    return optim.lr


def set_learning_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of every parameter group."""
    for group in optimiser.param_groups:
        group["lr"] = rate


def _one_cycle(done: float, rise: float) -> float:
    """Factor of the peak rate: linear up to 1 at share `rise` of the run, then linear down to 0."""
    return done / rise if done < rise else (1 - done) / (1 - rise)
