"""Gradient accumulation: a process computes the step of `optim.accumulate` ranks, one after the other.

Their shares of the batch are those that ranks would have, with the same random numbers. Each share has running
statistics of its own, which evaluation pools over all shares of all processes. So N shares give the gradients and the
statistics of N processes, in the memory of one share.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn

from distcond.config.schema import Config
from distcond.distributed.running_statistics import running_statistics
from distcond.errors import ConfigError
from distcond.methods.step_context import StepRandomness


class Shares:
    """The shares of a process, and the running statistics of each.

    Args:
        model: the network. Outside of `share` its statistics are those of share 0.
        count: number of shares; 1 = no accumulation.
    """

    def __init__(self, model: nn.Module, count: int) -> None:
        self.model, self.count = model, count
        initial = running_statistics(model.state_dict())
        self._others = [{name: tensor.clone() for name, tensor in initial.items()} for _ in range(count - 1)]

    @contextmanager
    def share(self, number: int) -> Iterator[None]:
        """Within the block the model has, and updates, the running statistics of share `number`."""
        if number == 0:
            yield
            return
        own, other = running_statistics(self.model.state_dict()), self._others[number - 1]
        first = {name: tensor.clone() for name, tensor in own.items()}
        _copy(other, own)
        try:
            yield
        finally:
            _copy(own, other)
            _copy(first, own)

    def state_dict(self) -> list[dict[str, Tensor]]:
        """The running statistics of the shares after the first, in order."""
        return self._others

    def load_state_dict(self, state: Sequence[Mapping[str, Tensor]]) -> None:
        """Resume from `state_dict`; from nothing, all shares start with the statistics of the model."""
        own = running_statistics(self.model.state_dict())
        for number, other in enumerate(self._others):
            _copy(state[number] if number < len(state) else own, other)


def share_randomness(whole: StepRandomness, number: int, count: int) -> StepRandomness:
    """The random numbers of one of `count` shares of a rank: those of rank `rank + number * world` among all."""
    return replace(whole, rank=whole.rank + number * whole.world, world=whole.world * count)


def check_accumulation(config: Config) -> None:
    """Check that the other settings allow `optim.accumulate`.

    Raises:
        ConfigError: a setting needs all shares at once.
    """
    if config.optim.accumulate == 1:
        return
    for setting, is_set in (
        ("optim.awp_gamma", config.optim.awp_gamma > 0),
        ("optim.averaging", config.optim.averaging > 0),
        ("shared_statistics", config.shared_statistics),
    ):
        if is_set:
            raise ConfigError(
                f"optim.accumulate={config.optim.accumulate}: not with {setting}; set one of them to its default"
            )


@torch.no_grad()
def _copy(source: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> None:
    for name, tensor in target.items():
        tensor.copy_(source[name])
