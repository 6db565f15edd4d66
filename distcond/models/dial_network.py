"""A plain network whose position on the dial can change at any time, or differ between rows of a batch."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, fx, nn

from distcond.errors import ConfigError
from distcond.models.conditional import ConditionalModel
from distcond.models.dial import check_two_paths
from distcond.models.plain_network import fold
from distcond.operating_point import OperatingPoint

#: Positions are rounded to six digits: 0.2 is the same position in float32 and in float64.
_DIGITS = 6


class DialNetwork(nn.Module):
    """x in [0, 1] (N, 3, H, W) to logits (N, K) at a position t of the weight blend of a network with two paths.

    Each end is one flat vector. `at(t)` interpolates them in one pass over the weights and caches the result; returning
    to a cached position only exchanges pointers. For a pair of runs, folded weights are interpolated (blend "folded").
    A backward pass gives the gradients of its forward's position even if the position has changed since; it raises if
    that memory was overwritten. Threads need a copy each: `at` in one changes the network under the other's forward.

    Args:
        model: a conditional model with two paths, in eval mode.
        lam: lam of the robust end, in (0, 1].
        width: width multiplier, one of the model's `width_mults`.
        noise_seed: seed of the robust end's weight noise.
        keep: number of cached positions besides the ends, at least 1; the least recently used one is dropped.

    Raises:
        ConfigError: the model has one path, or no such width, or keep is below 1.
    """

    clean: Tensor
    robust: Tensor

    def __init__(
        self, model: ConditionalModel, lam: float = 1.0, width: float = 1.0, noise_seed: int = 0, keep: int = 16
    ) -> None:
        super().__init__()
        if keep < 1:
            raise ConfigError(f"keep={keep}: must be at least 1")
        check_two_paths(model, OperatingPoint(lam, "folded" if model.two_networks else "weights", 0.5).checked())
        self._ends = [fold(model, end_lam, width, noise_seed, narrow=False) for end_lam in (0.0, lam)]
        self.network = copy.deepcopy(self._ends[0])
        for name, end in zip(("clean", "robust"), self._ends, strict=True):
            self.register_buffer(name, torch.cat([value.flatten() for value in end.parameters()]))
        self._cache: dict[float, _Position] = {}
        self._rows: list[fx.GraphModule] = []  # a list, because a submodule would duplicate weights in the state dict
        self._keep, self.position = keep, 0.0
        self._share_memory()
        self.register_load_state_dict_post_hook(_rebuild_after_load)  # type: ignore[no-untyped-call]

    def _share_memory(self) -> None:
        """Make the ends' parameters views of the flat vectors, and set the current position again."""
        self._cache, self._rows = {}, []
        vectors = zip(self._ends, (self.clean, self.robust), strict=True)
        self._end_positions = [_Position.of(end, flat) for end, flat in vectors]
        for end, position in zip(self._ends, self._end_positions, strict=True):
            position.apply_to(end)
            for name, own in end.named_buffers():
                own.copy_(self.network.get_buffer(name))
        self.at(self.position)

    @torch.inference_mode(False)  # cached weights must also work in attacks, which need gradients
    @torch.no_grad()
    def at(self, t: float) -> Self:
        """Set the position `t` in [0, 1]: 0 = most accurate, 1 = most robust. Returns this network.

        Raises:
            ConfigError: t outside [0, 1].
        """
        if not 0 <= t <= 1:
            raise ConfigError(f"t={t:g}: must be in [0, 1]")
        t = round(float(t), _DIGITS)
        self._position_at(t).apply_to(self.network)
        self.position = t
        return self

    def _position_at(self, t: float) -> _Position:
        if t in (0.0, 1.0):
            return self._end_positions[int(t)]
        if t in self._cache:
            self._cache[t] = self._cache.pop(t)  # most recently used last
            return self._cache[t]
        # A full cache overwrites its oldest vector, whose memory is allocated already.
        full = len(self._cache) >= self._keep
        position = self._cache.pop(next(iter(self._cache))) if full else None
        position = position or _Position.of(self.network, torch.empty_like(self.clean))
        torch.lerp(self.clean, self.robust, t, out=position.flat)
        self._cache[t] = position
        return position

    def forward(self, x: Tensor, t: Tensor | None = None) -> Tensor:
        """Logits at the current position, or with row i at position t[i], t (N,) in [0, 1].

        Convolutions are linear in the weight, so positions per row are exact and cost two convolutions each.

        Raises:
            ValueError: t has another shape, or is on the CPU and outside [0, 1].
        """
        if t is None:
            logits: Tensor = self.network(x)
            return logits
        if t.shape != (len(x),):
            raise ValueError(f"t: shape {tuple(t.shape)}; needed ({len(x)},), a position per row")
        if t.device.type == "cpu" and not bool(((t >= 0) & (t <= 1)).all()):  # on a GPU this would synchronise
            raise ValueError("t: must be in [0, 1]")
        if not self._rows:
            self._rows = [_by_row(*self._ends)]
        logits = self._rows[0](x, t.to(x))
        return logits

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        """Convert both ends, drop everything derived from them, and set the current position again."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._ends = [end._apply(fn) for end in self._ends]
        self._share_memory()
        return self

    def _load_from_state_dict(self, *arguments: Any) -> None:
        # The network's parameters are views of an end or of a cached position: loading must not write through them.
        _Position.of(self.network, self.clean.clone()).apply_to(self.network)
        super()._load_from_state_dict(*arguments)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": {}, "_rows": []}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the shared memory among the tensors of the copy."""
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._share_memory()


def _rebuild_after_load(network: nn.Module, _: object) -> None:
    """Drop everything derived from the previous state."""
    assert isinstance(network, DialNetwork)
    network._share_memory()


class _Position(NamedTuple):
    """The parameters of a network at one position: views of one flat vector, in order."""

    flat: Tensor
    views: list[nn.Parameter]

    @classmethod
    def of(cls, network: nn.Module, flat: Tensor) -> Self:
        """Views of `flat` with the shapes of a network's parameters."""
        shapes = [value.shape for value in network.parameters()]
        parts = flat.split([shape.numel() for shape in shapes])
        views = [nn.Parameter(part.view(shape), False) for part, shape in zip(parts, shapes, strict=True)]
        return cls(flat, views)

    def apply_to(self, network: nn.Module) -> None:
        """Make the views the parameters of `network`. Earlier passes keep the parameters that they saved."""
        views = iter(self.views)
        for module in network.modules():
            for name, value in module._parameters.items():
                if value is not None:
                    module._parameters[name] = next(views)


class _RowLayer(nn.Module):
    """Interpolates the outputs of two layers with one `t` per row."""

    def __init__(self, clean: nn.Module, robust: nn.Module) -> None:
        super().__init__()
        self.clean, self.robust = clean, robust

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        clean, robust = self.clean(x), self.robust(x)
        return torch.lerp(clean, robust, t.to(clean.dtype).view(-1, *(1,) * (clean.dim() - 1)))


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
