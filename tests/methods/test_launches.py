"""Every method's step on a pretended device: no mixed devices, no waits, and the kernels of an attack step.

The counts are those of a ResNet-18, whatever its widths.
"""

from __future__ import annotations

import pytest
import torch

from distcond.config.overrides import resolve
from distcond.config.schema import Config
from distcond.methods.step_context import StepRandomness
from distcond.registry import lookup
from distcond.runs.build import build_model, build_step
from distcond.seeding import generator
from distcond.training.build_trainer import stages_of
from distcond.training.optimiser import make_optimiser
from support.groups import quick, trained
from support.pretended_device import PRETENDED, PretendedDevice, pretended_device, to_device

#: Kernels of one attack step with folded weights; of slimmable networks over all widths.
KERNELS = {
    "flying_bird": 133,
    "flying_bird_plus": 133,
    "float": 140,
    "float_slim": 282,
    "floats": 140,
    "oat": 184,
    "oats": 555,
    "pgd_at": 133,
    "robust_bird": 133,
    "smart": 133,
    "standard": 0,
    "trades": 140,
}
N = 16


def config_of(method: str, num_steps: int) -> Config:
    settings = {"attack.num_steps": num_steps, "precision.train": "bf16", "eval.lam_grid": "0,1", "eval.every": 1}
    network = {"model": "resnet18", "model.widths": "4,4,8,8"}
    return resolve("float_digits", {"method": method, "batch_size": N, **network, **settings})


def second_step(config: Config) -> PretendedDevice:
    """A device that has run the second training step of the last stage; the first one prepares what is kept."""
    method, model = lookup("method", config.method.name), build_model(config)
    x, y = torch.rand(N, 3, 8, 8, generator=generator("images")), torch.arange(N) % 10
    lam = lookup("sampler", config.sampler.name).draw(config.sampler, N, generator("lam")).sort().values
    with pretended_device() as device:
        images, labels = to_device(x.contiguous(memory_format=torch.channels_last)), to_device(y)
        step = build_step(config, model, PRETENDED).train()
        optimiser, sparsity = make_optimiser(model, config.optim), method.sparsity(config, model)
        for stage in stages_of(config, method):
            step.objective = stage.objective
            if sparsity is not None:
                sparsity.start(stage.name)
        for number in range(2):
            device.kernels.clear()
            device.waits.clear()
            outcome = step(images, labels, StepRandomness(0, 0, number, 0, 1, lam))
            optimiser.zero_grad(set_to_none=True)
            outcome.loss.backward()
            step.after_backward()
            optimiser.step()
    return device


@pytest.mark.parametrize("method", quick("pgd_at", "float", "floats", "oat", of=trained()))
def test_steps_launch_as_many_kernels_without_waits(method: str) -> None:
    one, three = (second_step(config_of(method, steps)) for steps in (1, 3))
    assert three.waits == {}
    assert (three.launches - one.launches) / 2 == pytest.approx(KERNELS[method], rel=0.05)
