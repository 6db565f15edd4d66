"""Training FLOPs of a config before it runs: forward-equivalents per image times the FLOPs of one forward pass.

Forward-equivalents are counted on one training step of the method with a tiny network; FLOPs on the real network on the
meta device. Masked weights count as dense ones, since a GPU computes them. Evaluation is not counted.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cache

import torch
from torch import Tensor

from distcond.config.schema import Config, Options
from distcond.data.prepare import resolve_dataset
from distcond.layers.layer_set import SlimmableWidths, plain_layers, slimmable_layers
from distcond.methods.method import Method, Objective
from distcond.methods.step_context import StepRandomness
from distcond.models.conditional import ConditionalModel
from distcond.models.flops import cost_at
from distcond.models.model import Model
from distcond.models.small_cnn import SMALL_CNN, SmallCnnOptions
from distcond.registry import lookup
from distcond.runs.build import build_model, build_step
from distcond.samplers.distributions import FixedShareOptions
from distcond.seeding import generator
from distcond.training.build_trainer import stages_of

_TINY_MODEL = SmallCnnOptions(name=SMALL_CNN.name, widths=(2,))
_TINY_IMAGE_SIZE = 4


def train_flops(config: Config) -> float:
    """FLOPs (2 per multiply-accumulate) of all training on the data set's published number of images.

    Stages that may end early, such as Robust Bird's search, count in full.

    Raises:
        ConfigError: settings contradict each other.
    """
    images = resolve_dataset(config.data).splits["train"]
    images = min(images, config.train_examples or images)
    images -= images % config.batch_size if config.drop_last else 0
    per_image = sum(n * flops for n, flops in zip(count_forwards(config), forward_flops(config), strict=True))
    return images * per_image


def forwards_per_image(config: Config) -> float:
    """Full-width forward-equivalents per training image and epoch."""
    flops = forward_flops(config)
    return (
        sum(n * of_width / flops[0] for n, of_width in zip(count_forwards(config), flops, strict=True)) / config.epochs
    )


def count_forwards(config: Config) -> list[float]:
    """Forward-equivalents per training image over all epochs, by width."""
    method: Method = lookup("method", config.method.name)
    stages = [(stage.epochs, _forwards_of_step(config, stage.objective)) for stage in stages_of(config, method)]
    widths = range(len(method.widths(config.method)))
    return [sum(epochs * forwards.get(width, 0.0) for epochs, forwards in stages) for width in widths]


def forward_flops(config: Config) -> list[float]:
    """FLOPs of one image through the dense network, by width."""
    method: Method = lookup("method", config.method.name)
    dataset = resolve_dataset(config.data)
    return _forward_flops(config.model, dataset.num_classes, dataset.image_size, method.widths(config.method))


def _forwards_of_step(config: Config, objective: Objective) -> dict[int, float]:
    """Forward-equivalents per image of one training step, by index of the width."""
    small = replace(config, model=_TINY_MODEL, precision=replace(config.precision, train="float32", compile="off"))
    step = build_step(small, build_model(small), torch.device("cpu")).train()
    step.objective = objective
    batch = config.batch_size
    x, y = (
        torch.rand(batch, 3, _TINY_IMAGE_SIZE, _TINY_IMAGE_SIZE, generator=generator("budget")),
        torch.zeros(batch, dtype=torch.int64),
    )
    spent, batches = Counter[int](), _lam_of_batches(config)
    for lam in batches:
        step(x, y, StepRandomness(0, 0, 0, 0, 1, lam))
        spent.update(step.spent)
    return {width: forwards / batch / len(batches) for width, forwards in spent.items()}


def _lam_of_batches(config: Config) -> list[Tensor]:
    """lam of batches that together cost what training does on average: one batch, unless all rows share one lam."""
    if getattr(config.sampler, "batchwise", False):
        assert isinstance(config.sampler, FixedShareOptions)
        return [torch.full((config.batch_size,), choice) for choice in config.sampler.choices]
    draw = lookup("sampler", config.sampler.name).draw
    return [draw(config.sampler, config.batch_size, generator("budget")).sort().values]


@cache
def _forward_flops(
    options: Options, num_classes: int, image_size: int, width_mults: tuple[float, ...]
) -> list[float]:  # fmt: skip
    network: Model = lookup("model", options.name)
    layers = plain_layers() if width_mults == (1.0,) else slimmable_layers(SlimmableWidths(width_mults))
    with torch.device("meta"):
        backbone = network.build(layers, num_classes, options)
        model = ConditionalModel(backbone, width_mults=width_mults).eval()
    return [cost_at(model, 1.0, width, image_size).dense_flops for width in range(len(width_mults))]
