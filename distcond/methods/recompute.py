"""Activation checkpointing: keep the inputs of a network's blocks and compute the rest again in the backward pass.

`precision.recompute=true` costs one more forward per training pass and saves the memory of all activations within the
blocks (Chen et al. 2016, arXiv 1604.06174). Attacks need none of it: their blocks run as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from types import MethodType

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from distcond.layers.condition import Condition


def recompute_blocks(backbone: nn.Module) -> None:
    """Make the blocks of a network recompute their activations in training."""
    for block in _blocks(backbone):
        # A bound method of the block, so that a deep copy of the network is bound to its own blocks.
        block.forward = MethodType(_forward, block)


def _blocks(network: nn.Module) -> Iterator[nn.Module]:
    """The modules of a network's lists, also of lists of lists, which it calls one after the other with `(x, cond)`."""
    for child in network.children():
        if isinstance(child, nn.ModuleList):
            yield from _members(child)


def _members(blocks: nn.ModuleList) -> Iterator[nn.Module]:
    for block in blocks:
        yield from _members(block) if isinstance(block, nn.ModuleList) else (block,)


def _forward(block: nn.Module, x: Tensor, cond: Condition) -> Tensor:
    plain = partial(type(block).forward, block)
    if not (block.training and torch.is_grad_enabled()):
        out: Tensor = plain(x, cond)
        return out
    contexts = partial(_contexts, block)
    again: Tensor = checkpoint(plain, x, cond, use_reentrant=False, preserve_rng_state=False, context_fn=contexts)
    return again


def _contexts(block: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """For the forward pass, and for its repetition."""
    return nullcontext(), _kept_buffers(block)


@contextmanager
def _kept_buffers(block: nn.Module) -> Iterator[None]:
    """Restore the running statistics after the block: a batch must update them once."""
    before = [(buffer, buffer.clone()) for module in block.modules() for buffer in module.buffers(recurse=False)]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, kept in before:
                buffer.copy_(kept)
