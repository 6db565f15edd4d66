"""The plain build of a model, without its values: the names and shapes that every method's network refers to."""

from __future__ import annotations

import torch
from torch import nn

from distcond.config.schema import Options
from distcond.layers.layer_set import plain
from distcond.models.model import Model
from distcond.registry import lookup


def plain_build(options: Options, num_classes: int) -> nn.Module:
    """The network of plain layers on the meta device."""
    network: Model = lookup("model", options.name)
    with torch.device("meta"):
        return network.build(plain(), num_classes, options)


def classifier(network: nn.Module) -> str:
    """The name of a plain network's last linear layer."""
    return [name for name, module in network.named_modules() if isinstance(module, nn.Linear)][-1]
