"""Removes dead channels of a plain network, so that its layers become smaller. The function does not change.

A channel is dead if it is the same constant for every input, as after channel pruning (`relu(shift)`), or if nothing
reads it. A nonzero constant moves into the bias of the layer that reads it. In front of a padded convolution that would
be wrong at the borders, so the channel stays. Channels that are added to each other, as in a residual stream, are
removed together or not at all.
"""

from __future__ import annotations

import operator
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

_ADD = (operator.add, torch.add)
#: Operations per channel. All but ReLU keep a constant channel at its constant.
_PER_CHANNEL = (F.max_pool2d, F.relu, torch.relu, F.dropout)
#: The spatial dimensions, as a mean may name them.
_SPATIAL = ((2, 3), (-2, -1))


@dataclass(eq=False)
class _Group:
    """Channels of several nodes that are kept or removed together."""

    size: int
    frozen: bool = False  # read or produced by an unknown operation
    nodes: list[fx.Node] = field(default_factory=list)
    producers: list[nn.Module] = field(default_factory=list)  # convolutions whose outputs these are
    norms: list[nn.BatchNorm2d] = field(default_factory=list)
    readers: list[tuple[nn.Conv2d | nn.Linear, fx.Node]] = field(default_factory=list)  # and the node they read


@torch.no_grad()
def remove_dead_channels(network: fx.GraphModule) -> fx.GraphModule:
    """Remove dead channels in place until there are none, and return the network.

    `network` consists of torch's layers and is in eval mode.
    """
    while _remove_once(network):
        pass
    return network


def _remove_once(network: fx.GraphModule) -> bool:
    groups, constants = _analyse(network)
    changed = False
    for group in dict.fromkeys(groups.values()):
        dead = _find_dead(group, constants)
        if not bool(dead.any()):
            continue
        if bool(dead.all()):  # a layer needs at least one channel
            dead[0] = False
        if bool(dead.any()):
            _remove_channels(group, dead, constants)
            changed = True
    return changed


def _analyse(network: fx.GraphModule) -> tuple[dict[fx.Node, _Group], dict[fx.Node, Tensor]]:
    """The channel group of every node, and its constant channels (C,), NaN where a channel varies."""
    groups: dict[fx.Node, _Group] = {}
    constants: dict[fx.Node, Tensor] = {}
    calls = Counter(node.target for node in network.graph.nodes if node.op == "call_module")
    for node in network.graph.nodes:
        inputs = [source for source in node.all_input_nodes if source in groups]
        # A layer that is called twice reads and produces two groups, so it does not change.
        layer = network.get_submodule(cast("str", node.target)) if calls[node.target] == 1 else None
        if isinstance(layer, nn.Conv2d) and layer.groups == 1 and not isinstance(layer.padding, str):
            inputs_read = _register_reader(layer, node, groups, constants)
            constants[node] = _constant_outputs(layer, inputs_read, padded=any(layer.padding))
            groups[node] = _Group(layer.out_channels, nodes=[node], producers=[layer])
        elif isinstance(layer, nn.Linear):
            inputs_read = _register_reader(layer, node, groups, constants)
            constants[node] = _constant_outputs(layer, inputs_read, padded=False)
            groups[node] = _Group(layer.out_features, frozen=True)  # logits
        elif isinstance(layer, nn.BatchNorm2d) and inputs:
            scale, shift = _affine(layer)
            _join(node, inputs, groups)
            groups[node].norms.append(layer)
            constants[node] = torch.where(scale == 0, shift, constants[inputs[0]] * scale + shift)
        elif _adds_channels(node, [groups[source].size for source in inputs]):
            _join(node, inputs, groups)
            constants[node] = constants[inputs[0]] + constants[inputs[1]]
        elif inputs and _keeps_channels(node):
            _join(node, inputs, groups)
            constants[node] = constants[inputs[0]].relu() if "relu" in str(node.target) else constants[inputs[0]]
        else:
            for source in inputs:
                groups[source].frozen = True
    return groups, constants


def _adds_channels(node: fx.Node, sizes: list[int]) -> bool:
    """Whether an operation adds two maps with equal numbers of channels, without a factor."""
    return node.target in _ADD and not node.kwargs and len(sizes) == 2 and sizes[0] == sizes[1]


def _keeps_channels(node: fx.Node) -> bool:
    """Whether an operation works per channel and not in place."""
    if node.target == "mean":
        dims = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", ())
        return isinstance(dims, list | tuple) and tuple(dims) in _SPATIAL
    in_place = node.kwargs.get("inplace", False) or ("relu" in str(node.target) and len(node.args) > 1)
    return node.target in _PER_CHANNEL and not in_place


def _register_reader(
    layer: Any, node: fx.Node, groups: dict[fx.Node, _Group], constants: dict[fx.Node, Tensor]
) -> Tensor:
    """Register a layer as reader of its input's group; returns the constants of the input (C_in,)."""
    source = cast("fx.Node", node.args[0])
    if source not in groups:  # the image
        return torch.full((layer.weight.shape[1],), torch.nan)
    groups[source].readers.append((layer, source))
    return constants[source]


def _constant_outputs(layer: nn.Conv2d | nn.Linear, inputs: Tensor, padded: bool) -> Tensor:
    """Constants of a layer's output (C_out,): where all used inputs are zero, or constant and not padded."""
    weight = layer.weight.flatten(2).sum(2) if layer.weight.dim() > 2 else layer.weight
    used = layer.weight.flatten(2).count_nonzero(2) > 0 if layer.weight.dim() > 2 else layer.weight != 0
    zero = inputs == 0
    known = zero if padded else ~inputs.isnan()
    out = torch.where(known & ~zero, inputs, 0) @ weight.T
    if layer.bias is not None:
        out = out + layer.bias
    return torch.where((used & ~known).any(1), torch.nan, out)


def _affine(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    return scale, norm.bias - norm.running_mean * scale


def _join(node: fx.Node, inputs: list[fx.Node], groups: dict[fx.Node, _Group]) -> None:
    """Merge the channel groups of a node and all its inputs."""
    first = groups[inputs[0]]
    for source in inputs[1:]:
        other = groups[source]
        if other is first:
            continue
        first.frozen |= other.frozen
        for name in ("nodes", "producers", "norms", "readers"):
            getattr(first, name).extend(getattr(other, name))
        groups.update({member: first for member, group in groups.items() if group is other})
    first.nodes.append(node)
    groups[node] = first


def _find_dead(group: _Group, constants: dict[fx.Node, Tensor]) -> Tensor:
    """(C,) bool: channels that no reader needs."""
    dead = torch.full((group.size,), not group.frozen)
    for layer, source in group.readers:
        weight = layer.weight.flatten(2).count_nonzero(2) if layer.weight.dim() > 2 else layer.weight
        unread = (weight == 0).all(0)
        value = constants[source]
        padded = isinstance(layer, nn.Conv2d) and any(cast("tuple[int, ...]", layer.padding))
        dead &= unread | ((value == 0) if padded else ~value.isnan())
    return dead


def _remove_channels(group: _Group, dead: Tensor, constants: dict[fx.Node, Tensor]) -> None:
    kept = (~dead).nonzero()[:, 0]
    for layer, source in group.readers:
        _add_to_bias(layer, torch.where(dead, constants[source], 0.0).nan_to_num(0.0))
        layer.weight = nn.Parameter(layer.weight[:, kept].contiguous(), requires_grad=False)
        if isinstance(layer, nn.Conv2d):
            layer.in_channels = len(kept)
        else:
            layer.in_features = len(kept)
    for conv in group.producers:
        assert isinstance(conv, nn.Conv2d)
        conv.weight, conv.out_channels = nn.Parameter(conv.weight[kept], requires_grad=False), len(kept)
        if conv.bias is not None:
            conv.bias = nn.Parameter(conv.bias[kept], requires_grad=False)
    for norm in group.norms:
        norm.num_features = len(kept)
        norm.weight, norm.bias = (nn.Parameter(value[kept], requires_grad=False) for value in (norm.weight, norm.bias))
        norm.running_mean, norm.running_var = norm.running_mean[kept], norm.running_var[kept]  # type: ignore[index]


def _add_to_bias(layer: nn.Conv2d | nn.Linear, constant: Tensor) -> None:
    """Add the contribution of removed constant channels to a layer's bias."""
    if not bool((constant != 0).any()):
        return
    weight = layer.weight.flatten(2).sum(2) if layer.weight.dim() > 2 else layer.weight
    share = weight @ constant
    bias = share if layer.bias is None else layer.bias + share
    layer.bias = nn.Parameter(bias, requires_grad=False)
