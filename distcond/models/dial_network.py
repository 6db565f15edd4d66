"""A plain network whose position on the dial can be changed at any time, or be another one for every row of a batch."""

from __future__ import annotations

import copy
from typing import Any, Self

import torch
from torch import Tensor, fx, nn

from distcond.errors import ConfigError
from distcond.models.conditional import ConditionalModel
from distcond.models.dial import check_two_paths
from distcond.models.plain_network import fold
from distcond.operating_point import OperatingPoint

#: Positions are kept under six digits: 0.2 is one position in float32 and in float64.
_DIGITS = 6


class DialNetwork(nn.Module):
    """x in [0, 1] (N, 3, H, W) to logits (N, K) at a position t of the blend of weights of a network with two paths.

    Both ends are held as one flat vector each. `at(t)` interpolates them into a third, in one pass over the weights,
    and keeps it; going back to a position that is kept only exchanges pointers. Of a pair of runs the folded weights
    are interpolated (the blend "folded").

    Args:
        model: a conditional model with two paths, in eval mode.
        lam: of the robust end, in (0, 1].
        width: multiplier of the width, one of the model's `width_mults`.
        noise_seed: which draw of the weight noise the robust end carries.
        keep: how many positions to keep besides the ends; the one used longest ago goes first.

    Raises:
        ConfigError: the model has one path, or no such width.
    """

    clean: Tensor
    robust: Tensor
    _rows: fx.GraphModule | None

    def __init__(
        self, model: ConditionalModel, lam: float = 1.0, width: float = 1.0, noise_seed: int = 0, keep: int = 16
    ) -> None:
        super().__init__()
        check_two_paths(model, OperatingPoint(lam, "folded" if model.two_networks else "weights", 0.5).checked())
        self._ends = [fold(model, place, width, noise_seed, narrow=False) for place in (0.0, lam)]
        self.network = copy.deepcopy(self._ends[0])
        for name, end in zip(("clean", "robust"), self._ends, strict=True):
            self.register_buffer(name, torch.cat([value.flatten() for value in end.parameters()]))
        self._kept: dict[float, Tensor] = {}
        self._keep, self._rows = keep, None
        self.position = 0.0
        self._share_memory()

    def _share_memory(self) -> None:
        """Make the ends' parameters views of the flat vectors, and come to the present position."""
        for end, flat in zip(self._ends, (self.clean, self.robust), strict=True):
            _point_into(end, flat)
        self.at(self.position)

    @torch.no_grad()
    def at(self, t: float) -> Self:
        """Go to position `t` in [0, 1]: 0 = most accurate, 1 = most robust. Returns this network.

        Raises:
            ConfigError: t outside [0, 1].
        """
        if not 0 <= t <= 1:
            raise ConfigError(f"t={t:g}: must be in [0, 1]")
        t = round(float(t), _DIGITS)
        _point_into(self.network, self._flat_at(t))
        self.position = t
        return self

    def _flat_at(self, t: float) -> Tensor:
        if t in (0.0, 1.0):
            return self.robust if t else self.clean
        if t in self._kept:
            self._kept[t] = self._kept.pop(t)  # used last
            return self._kept[t]
        # The oldest vector is written over: its memory is there already.
        full = len(self._kept) >= self._keep
        room = self._kept.pop(next(iter(self._kept))) if full else torch.empty_like(self.clean)
        self._kept[t] = torch.lerp(self.clean, self.robust, t, out=room)
        return room

    def forward(self, x: Tensor, t: Tensor | None = None) -> Tensor:
        """Logits at the present position, or with row i at position t[i], t (N,) in [0, 1].

        A convolution is linear in its weight, so rows at different positions cost two convolutions each and are exact.
        """
        if t is None:
            logits: Tensor = self.network(x)
            return logits
        if self._rows is None:
            self._rows = _by_row(*self._ends)
        logits = self._rows(x, t.to(x.dtype))
        return logits

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        """Move both ends, drop what was made of them, and come back to the present position."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._ends = [end._apply(fn) for end in self._ends]
        self._kept, self._rows = {}, None
        self._share_memory()
        return self


def _point_into(network: nn.Module, flat: Tensor) -> None:
    """Make the parameters of a network views of one flat vector, in their order."""
    start = 0
    for value in network.parameters():
        value.data = flat[start : start + value.numel()].view(value.shape)
        start += value.numel()


class _RowLayer(nn.Module):
    """A layer whose output is, row by row, a share `t` of the way from that of one layer to that of another."""

    def __init__(self, clean: nn.Module, robust: nn.Module) -> None:
        super().__init__()
        self.clean, self.robust = clean, robust

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        clean, robust = self.clean(x), self.robust(x)
        return torch.lerp(clean, robust, t.view(-1, *(1,) * (clean.dim() - 1)))


def _by_row(clean: fx.GraphModule, robust: fx.GraphModule) -> fx.GraphModule:
    """The graph of both ends with a position per row as second input."""
    graph, copies, parts = fx.Graph(), dict[fx.Node, fx.Node](), dict[str, Any]()
    for node in clean.graph.nodes:
        copies[node] = graph.node_copy(node, copies.__getitem__)
        target = str(node.target)
        if node.op == "placeholder":
            position = graph.placeholder("t")
        elif node.op == "get_attr":
            parts[target] = getattr(clean, target)
        elif node.op == "call_module":
            copies[node].args = (*copies[node].args, position)
            parts[target] = _RowLayer(clean.get_submodule(target), robust.get_submodule(target))
    graph.lint()
    return fx.GraphModule(parts, graph).eval()
