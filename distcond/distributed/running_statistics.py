"""Running statistics of batch normalisation over the ranks of a run: which tensors they are, pooled and averaged.

Ranks train with their own statistics. The one network of a run is evaluated with those of the images of all ranks.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from distcond.distributed.world import World
from distcond.layers.batch_norm_statistics import pool_statistics

_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def running_statistics(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The running statistics of every normalisation in a state_dict: what differs between ranks."""
    return {name: tensor for name, tensor in state.items() if name.endswith(_STATISTICS)}


def averageable_tensors(model: nn.Module) -> dict[str, Tensor]:
    """What an average of networks is made of, by state_dict name: parameters and running means and variances."""
    parameters = dict(model.named_parameters())
    return {
        name: tensor
        for name, tensor in model.state_dict(keep_vars=True).items()
        if name in parameters or (name.endswith(_STATISTICS) and tensor.is_floating_point())
    }


def pool_over_ranks(
    parts: list[dict[str, Tensor]], counters: list[dict[str, Tensor]], counted: bool = True
) -> dict[str, Tensor]:
    """The running statistics of the images of all ranks, from those of every rank, by state_dict name.

    Args:
        parts: running means and variances, in rank order.
        counters: what also holds how often every normalisation moved (num_batches_tracked).
        counted: whether every move was counted; otherwise a rank whose statistics are not those a normalisation starts
            with has moved, too, as in checkpoints of before.
    """
    found = dict(parts[0])  # counters keep the first value
    for name in [name.removesuffix("running_mean") for name in found if name.endswith("running_mean")]:
        mean, var = (torch.stack([part[name + kind] for part in parts]) for kind in _STATISTICS[:2])
        moved = torch.stack([counter[name + _STATISTICS[2]] for counter in counters]) > 0
        if not counted:
            moved |= (mean != 0).any(1) | (var != 1).any(1)
        found[name + "running_mean"], found[name + "running_var"] = pool_statistics(mean, var, moved)
    return found


def mean_over_ranks(tensors: list[Tensor]) -> Tensor:
    """Mean in the order given; counters keep the first value."""
    return torch.stack(tensors).mean(0) if tensors[0].is_floating_point() else tensors[0]


def all_gather_tensors(tensors: dict[str, Tensor], world: World) -> list[dict[str, Tensor]]:
    """The tensors of every rank, in rank order, by one collective; counters are exact up to 2**24."""
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
    """Replace the weights of `model` by averaged ones.

    A weight that is exactly zero stays zero: it is outside the network's mask, which the average knows nothing of.
    """
    for name, tensor in averageable_tensors(model).items():
        kept = mean[name] if tensor.dim() < 2 else mean[name] * (tensor != 0)
        tensor.copy_(kept)
