"""Running statistics of batch normalisation: which tensors they are, and how they are pooled over ranks.

Every rank trains with its own statistics. The network of a run is evaluated with the pooled ones, those of the images
of all ranks.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from distcond.distributed.world import World
from distcond.layers.batch_norm_statistics import pool_statistics

_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def running_statistics(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The running statistics of every normalisation in a state_dict. Only these tensors differ between ranks."""
    return {name: tensor for name, tensor in state.items() if name.endswith(_STATISTICS)}


def averageable_tensors(model: nn.Module) -> dict[str, Tensor]:
    """The tensors that weight averaging averages, by state_dict name: parameters, running means and variances."""
    parameters = dict(model.named_parameters())
    return {
        name: tensor
        for name, tensor in model.state_dict(keep_vars=True).items()
        if name in parameters or (name.endswith(_STATISTICS) and tensor.is_floating_point())
    }


def pool_over_ranks(
    parts: list[dict[str, Tensor]], counters: list[dict[str, Tensor]], counted: bool = True
) -> dict[str, Tensor]:
    """The running statistics of the images of all ranks, by state_dict name.

    Args:
        parts: running means and variances of every rank, in order of rank.
        counters: state dicts that have how often every normalisation was updated (num_batches_tracked).
        counted: whether the counters are reliable. Older checkpoints did not count; there, a rank was updated if its
            statistics are not the initial ones.
    """
    pooled = dict(parts[0])  # counters keep the first value
    for name in [name.removesuffix("running_mean") for name in pooled if name.endswith("running_mean")]:
        mean, var = (torch.stack([part[name + kind] for part in parts]) for kind in _STATISTICS[:2])
        updated = torch.stack([counter[name + _STATISTICS[2]] for counter in counters]) > 0
        if not counted:
            updated |= (mean != 0).any(1) | (var != 1).any(1)
        pooled[name + "running_mean"], pooled[name + "running_var"] = pool_statistics(mean, var, updated)
    return pooled


def mean_over_ranks(tensors: list[Tensor]) -> Tensor:
    """The mean, summed in the given order; integer counters keep the first value."""
    return torch.stack(tensors).mean(0) if tensors[0].is_floating_point() else tensors[0]


def all_gather_tensors(tensors: dict[str, Tensor], world: World) -> list[dict[str, Tensor]]:
    """The tensors of every rank, in order of rank, by one collective. Counters are exact up to 2**24."""
    if world.size == 1 or not tensors:
        return [tensors]
    sizes = [tensor.numel() for tensor in tensors.values()]
    flat = torch.cat([tensor.float().flatten() for tensor in tensors.values()])
    return [
        {name: piece.view_as(like) for (name, like), piece in zip(tensors.items(), part.split(sizes), strict=True)}
        for part in world.gather(flat)
    ]


@torch.no_grad()
def overlay_average(model: nn.Module, mean: Mapping[str, Tensor]) -> None:
    """Replace the weights of `model` by the averaged ones in `mean`.

    A weight that is exactly zero stays zero: it is masked, and the average ignores masks.
    """
    for name, tensor in averageable_tensors(model).items():
        kept = mean[name] if tensor.dim() < 2 else mean[name] * (tensor != 0)
        tensor.copy_(kept)
