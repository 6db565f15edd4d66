"""What a file of this room exports: a named network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from distcond.config.schema import Options
from distcond.layers.layer_set import LayerSet


@dataclass(frozen=True)
class Model:
    """A named network.

    `build(layers, num_classes, options)` gives a module called `(x, cond)`; its options are `model.*` in a config.
    """

    name: str
    summary: str
    build: Callable[[LayerSet, int, Any], nn.Module]
    options: Options
