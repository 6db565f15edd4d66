"""A plain network whose position on the dial can be changed at any time, or be another one for every row of a batch."""

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

#: Positions are kept under six digits: 0.2 is one position in float32 and in float64.
_DIGITS = 6


class DialNetwork(nn.Module):
    """x in [0, 1] (N, 3, H, W) to logits (N, K) at a position t of the blend of weights of a network with two paths.

    Both ends are held as one flat vector each. `at(t)` interpolates them into a third, in one pass over the weights,
    and keeps it; going back to a position that is kept only exchanges pointers. Of a pair of runs the folded weights
    are interpolated (the blend "folded"). Gradients of a forward pass stay those of its position when the position
    changes before `backward`; if its memory was written over meanwhile, `backward` raises. Two threads need a copy
    each: `at` in one changes the network under a forward pass of the other.

    Args:
        model: a conditional model with two paths, in eval mode.
        lam: of the robust end, in (0, 1].
        width: multiplier of the width, one of the model's `width_mults`.
        noise_seed: which draw of the weight noise the robust end carries.
        keep: how many positions to keep besides the ends, at least 1; the one used longest ago goes first.

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
        self._kept: dict[float, _Place] = {}
        self._rows: list[fx.GraphModule] = []  # in a list: not a submodule, or its weights would be in the state twice
        self._keep, self.position = keep, 0.0
        self._share_memory()
        self.register_load_state_dict_post_hook(_come_back)  # type: ignore[no-untyped-call]

    def _share_memory(self) -> None:
        """Make the ends' parameters views of the flat vectors, and come to the present position."""
        self._kept, self._rows = {}, []
        self._places = [_Place.of(end, flat) for end, flat in zip(self._ends, (self.clean, self.robust), strict=True)]
        for end, place in zip(self._ends, self._places, strict=True):
            place.enter(end)
            for name, own in end.named_buffers():
                own.copy_(self.network.get_buffer(name))
        self.at(self.position)

    @torch.inference_mode(False)  # what is kept must also serve attacks, which need gradients
    @torch.no_grad()
    def at(self, t: float) -> Self:
        """Go to position `t` in [0, 1]: 0 = most accurate, 1 = most robust. Returns this network.

        Raises:
            ConfigError: t outside [0, 1].
        """
        if not 0 <= t <= 1:
            raise ConfigError(f"t={t:g}: must be in [0, 1]")
        t = round(float(t), _DIGITS)
        self._place_at(t).enter(self.network)
        self.position = t
        return self

    def _place_at(self, t: float) -> _Place:
        if t in (0.0, 1.0):
            return self._places[int(t)]
        if t in self._kept:
            self._kept[t] = self._kept.pop(t)  # used last
            return self._kept[t]
        # The oldest vector is written over: its memory is there already.
        full = len(self._kept) >= self._keep
        place = self._kept.pop(next(iter(self._kept))) if full else None
        place = place or _Place.of(self.network, torch.empty_like(self.clean))
        torch.lerp(self.clean, self.robust, t, out=place.flat)
        self._kept[t] = place
        return place

    def forward(self, x: Tensor, t: Tensor | None = None) -> Tensor:
        """Logits at the present position, or with row i at position t[i], t (N,) in [0, 1].

        A convolution is linear in its weight, so rows at different positions cost two convolutions each and are exact.

        Raises:
            ValueError: t has another shape, or lies on the CPU and is outside [0, 1].
        """
        if t is None:
            logits: Tensor = self.network(x)
            return logits
        if t.shape != (len(x),):
            raise ValueError(f"t: shape {tuple(t.shape)}; needed ({len(x)},), a position per row")
        if t.device.type == "cpu" and not bool(((t >= 0) & (t <= 1)).all()):  # elsewhere this would wait for the device
            raise ValueError("t: must be in [0, 1]")
        if not self._rows:
            self._rows = [_by_row(*self._ends)]
        logits = self._rows[0](x, t.to(x))
        return logits

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        """Move both ends, drop what was made of them, and come back to the present position."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._ends = [end._apply(fn) for end in self._ends]
        self._share_memory()
        return self

    def _load_from_state_dict(self, *arguments: Any) -> None:
        # The network's parameters are views of an end or of a kept position: nothing may be loaded through them.
        _Place.of(self.network, self.clean.clone()).enter(self.network)
        super()._load_from_state_dict(*arguments)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": {}, "_rows": []}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """A copy shares memory among its own tensors as the original does."""
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._share_memory()


def _come_back(network: nn.Module, _: object) -> None:
    """After a state was loaded: drop what was made of the earlier one."""
    assert isinstance(network, DialNetwork)
    network._share_memory()


class _Place(NamedTuple):
    """The parameters of a network at one position: views of one flat vector, in their order."""

    flat: Tensor
    views: list[nn.Parameter]

    @classmethod
    def of(cls, network: nn.Module, flat: Tensor) -> Self:
        """Views of `flat` with the shapes of a network's parameters."""
        shapes = [value.shape for value in network.parameters()]
        parts = flat.split([shape.numel() for shape in shapes])
        views = [nn.Parameter(part.view(shape), False) for part, shape in zip(parts, shapes, strict=True)]
        return cls(flat, views)

    def enter(self, network: nn.Module) -> None:
        """Make them the parameters of `network`. Others take their place: a pass that saved those keeps them."""
        views = iter(self.views)
        for module in network.modules():
            for name, value in module._parameters.items():
                if value is not None:
                    module._parameters[name] = next(views)


class _RowLayer(nn.Module):
    """A layer whose output is, row by row, a share `t` of the way from that of one layer to that of another."""

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
