"""Folds a conditional network at one operating point into a plain network of torch's own layers.

The result is a `torch.fx.GraphModule` of `nn.Conv2d`, `nn.BatchNorm2d` and `nn.Linear`, x in [0, 1] (N, 3, H, W) to
logits (N, K), with input normalisation inside. It runs, exports and trains without distcond.
"""

from __future__ import annotations

import copy
import math
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from distcond.errors import ConfigError
from distcond.layers.condition import Condition
from distcond.layers.film import compose_affines
from distcond.layers.folding import ConvNorm, NormUnit, Unit
from distcond.layers.paired import PairedLinear
from distcond.layers.slimmable import SlimmableLinear, SwitchableLinear
from distcond.models.conditional import AtLambda, ConditionalModel, FoldedModel, condition_at_lam
from distcond.models.dial import OutputBlend, network_at
from distcond.models.narrowing import remove_dead_channels
from distcond.operating_point import PointLike

_LEAVES = (*Unit.__args__, nn.Linear, SwitchableLinear)


@torch.no_grad()
def fold(
    model: ConditionalModel,
    point: PointLike,
    width: float = 1.0,
    noise_seed: int = 0,
    keep_norm: bool = False,
    narrow: bool = True,
) -> fx.GraphModule:
    """The plain network at one operating point, in eval mode, float32.

    Args:
        model: a conditional model in eval mode, as `distcond.load` returns it.
        point: an operating point, or a lam in [0, 1]. A blend of outputs contains both networks.
        width: width multiplier, one of the model's `width_mults`; a narrower width has smaller layers.
        noise_seed: seed of the weight noise.
        keep_norm: keep a `BatchNorm2d` after every convolution instead of folding it. For blended weights it is the
            identity plus the folded bias, because two sets of statistics cannot be merged.
        narrow: remove dead channels, for example after channel pruning (`narrowing.remove_dead_channels`). The function
            does not change.

    Raises:
        ConfigError: as `network_at`: a blend of a model with one path, a width the model was not built with; or a
            model of your own whose forward depends on more than fx can trace.
        ValueError: lam outside [0, 1], or a model in training mode.
    """
    network = network_at(model, point, width, noise_seed)
    if isinstance(network, OutputBlend):
        for end in ("clean", "robust"):
            setattr(network, end, _to_plain(getattr(network, end), keep_norm))
        plain = trace_blend(network)
    else:
        assert isinstance(network, FoldedModel)
        plain = _to_plain(network, keep_norm)
    plain = remove_dead_channels(plain) if narrow else plain
    return plain.eval().requires_grad_(False)


def trace_blend(network: OutputBlend) -> fx.GraphModule:
    """The graph of an output blend of two plain networks."""
    return fx.GraphModule(network, fx.Tracer().trace(network), class_name=type(network).__name__)


def _condition_of(network: FoldedModel) -> Condition | None:
    """The unfolded condition of a network at one lam; None for a weight blend, which has none."""
    if not isinstance(network, AtLambda):
        return None
    model = network.model
    return model.add_code(condition_at_lam(model, network.lam, network.width, network.noise_seed))


class _Normalised(nn.Module):
    """The backbone after input normalisation, without a condition: its units are folded."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: ConditionalModel) -> None:
        super().__init__()
        self.backbone = model.backbone
        self.register_buffer("mean", model.mean.detach().float().clone())
        self.register_buffer("std", model.std.detach().float().clone())

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.backbone((x - self.mean) / self.std, None)
        return logits


class _Tracer(fx.Tracer):
    """Traces foldable units and classifiers as single nodes."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, _LEAVES) or super().is_leaf_module(m, module_qualified_name)


def _to_plain(network: FoldedModel, keep_norm: bool) -> fx.GraphModule:
    """The graph of a folded network with plain layers instead of units."""
    model = network.model  # for a pair's interpolated weights not the pair itself
    assert isinstance(model, ConditionalModel)
    normalised, cond = _Normalised(model).eval(), _condition_of(network)
    try:
        graph = _Tracer().trace(normalised)
    except fx.proxy.TraceError as error:
        name = type(model.backbone).__name__
        raise ConfigError(f"model {name}: its forward must not branch on values or shapes of x ({error})") from error
    parts: dict[str, Any] = {"mean": normalised.mean, "std": normalised.std}
    for node in list(graph.nodes):
        if node.target is F.dropout:  # the identity in eval mode
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
        if node.op != "call_module":
            continue
        unit, name = normalised.get_submodule(node.target), node.target.removeprefix("backbone.")
        layers = _plain_layers(unit, network, cond, keep_norm)
        _replace(graph, node, name, layers)
        parts |= {name + suffix: layer for suffix, layer in layers.items()}
    graph.lint()
    return fx.GraphModule(parts, graph, class_name=type(model.backbone).__name__)


def _replace(graph: fx.Graph, node: fx.Node, name: str, layers: dict[str, nn.Module]) -> None:
    """Replace the call of a unit by calls of `layers` in sequence."""
    x = node.args[0]
    with graph.inserting_before(node):
        for suffix in layers:
            x = graph.call_module(name + suffix, (x,))
    node.replace_all_uses_with(cast("fx.Node", x))
    graph.erase_node(node)


def _plain_layers(
    unit: nn.Module, network: FoldedModel, cond: Condition | None, keep_norm: bool
) -> dict[str, nn.Module]:
    """The plain layers equivalent to a unit or a classifier, by the suffix to its name."""
    if isinstance(unit, PairedLinear):
        return {"": _linear(*network.folded(unit.index)[:2])}
    if isinstance(unit, SwitchableLinear):
        head = unit.heads[network.width_index]
        assert isinstance(head, nn.Linear)
        return {"": _linear(head.weight, head.bias)}
    if isinstance(unit, nn.Linear):
        used = unit.ins[network.width_index] if isinstance(unit, SlimmableLinear) else unit.in_features
        return {"": _linear(unit.weight[:, :used], unit.bias)}
    if not isinstance(unit, Unit):  # a layer of torch in a user's model
        return {"": copy.deepcopy(unit).float()}
    weight, bias, _ = network.folded(unit.index)
    if isinstance(unit, NormUnit):
        assert bias is not None
        return {"": _norm(weight[0], bias[0])}
    if keep_norm and isinstance(unit, ConvNorm):
        if cond is None:
            assert bias is not None
            return {".conv": _conv(unit, weight, None), ".norm": _norm(torch.ones_like(bias), bias)}
        return {".conv": _conv(unit, unit.conv.effective_weight(cond), None), ".norm": _norm_at(unit, cond)}
    return {"": _conv(unit, weight, bias)}


def _conv(unit: Any, weight: Tensor, bias: Tensor | None) -> nn.Conv2d:
    like = getattr(unit.conv, "clean", unit.conv)  # both convolutions of a pair have the same stride and padding
    conv = nn.utils.skip_init(
        nn.Conv2d, weight.shape[1], weight.shape[0], weight.shape[2], like.stride, like.padding, bias=bias is not None
    )
    conv.weight = nn.Parameter(weight.detach().float().clone())
    if bias is not None:
        conv.bias = nn.Parameter(bias.detach().float().clone())
    return cast("nn.Conv2d", conv)


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    linear = nn.utils.skip_init(nn.Linear, weight.shape[1], weight.shape[0], bias=bias is not None)
    linear.weight = nn.Parameter(weight.detach().float().clone())
    if bias is not None:
        linear.bias = nn.Parameter(bias.detach().float().clone())
    return cast("nn.Linear", linear)


def _norm(scale: Tensor, shift: Tensor) -> nn.BatchNorm2d:
    """A batch normalisation that computes `x * scale + shift`."""
    norm = nn.BatchNorm2d(len(scale), device=scale.device)
    norm.weight, norm.bias = nn.Parameter(scale.float() * math.sqrt(1 + norm.eps)), nn.Parameter(shift.float().clone())
    return norm


def _norm_at(unit: ConvNorm, cond: Condition) -> nn.BatchNorm2d:
    """The routed normalisation with its statistics, and the modulation merged into its affine parameters."""
    own = unit.norm.routed(cond)
    modulation = unit.modulate.as_affine(cond) if unit.modulate is not None else None
    affine = (own.weight, own.bias) if modulation is None else compose_affines((own.weight, own.bias), modulation)
    norm = nn.BatchNorm2d(own.num_features, own.eps, device=own.weight.device)
    norm.weight, norm.bias = (nn.Parameter(value.detach().float().clone()) for value in affine)
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        getattr(norm, name).copy_(getattr(own, name))
    return norm
