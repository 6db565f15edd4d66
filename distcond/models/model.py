"""The `Model` value that each file of this package exports; and shared helpers: stage shapes, initial weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from distcond.config.schema import Options
from distcond.errors import ConfigError
from distcond.layers.layer_set import LayerSet


@dataclass(frozen=True)
class Model:
    """A named network.

    `build(layers, num_classes, options)` returns a module called `(x, cond)`. `options` are the settings `model.*`.
    """

    name: str
    summary: str
    build: Callable[[LayerSet, int, Any], nn.Module]
    options: Options


def stage_shapes(depths: tuple[int, ...], widths: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """(depth, width) of each stage.

    Raises:
        ConfigError: different numbers of depths and widths, or none.
    """
    if len(depths) != len(widths) or not depths:
        settings = f"model.depths={depths} with model.widths={widths}"
        raise ConfigError(f"{settings}: give one of each per stage, such as model.depths=2,2 model.widths=16,32")
    return tuple(zip(depths, widths, strict=True))


def init_he_normal(net: nn.Module) -> None:
    """Initialise the weights of every convolution of `net` from N(0, 2 / (k k C_out))."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
