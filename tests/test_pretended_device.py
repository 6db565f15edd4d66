"""The pretended device finds the faults that it is there for."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from support.pretended_device import PRETENDED, MixedDevicesError, PretendedDevice, pretended_device, to_device


@pytest.fixture
def device() -> Iterator[PretendedDevice]:
    with pretended_device() as made:
        yield made


def test_mixing_tensors_of_both_devices_is_refused(device: PretendedDevice) -> None:
    own = to_device(torch.ones(3))
    with pytest.raises(MixedDevicesError, match="add"):
        own + torch.ones(3)
    assert (own + torch.tensor(1.0)).sum().device == PRETENDED  # as CUDA takes it


@pytest.mark.parametrize(
    "wait",
    [
        lambda own: own.sum().item(),
        lambda own: bool(own.all()),
        lambda own: own.cpu(),
        lambda own: own[own > 0],
        lambda own: own.nonzero(),
        lambda own: own[torch.tensor([0, 1])],
        lambda own: torch.equal(own, own),
        lambda own: own.copy_(torch.zeros(3)),
    ],
)
def test_what_needs_the_hosts_attention_is_a_wait(device: PretendedDevice, wait: Callable[[Tensor], object]) -> None:
    wait(to_device(torch.ones(3)))
    assert device.waits.total() == 1


def test_work_on_the_device_waits_for_nothing(device: PretendedDevice) -> None:
    own = torch.zeros(3, device=PRETENDED) + to_device(torch.ones(3))
    own.copy_(torch.ones(3).to(PRETENDED, non_blocking=True))
    own[torch.arange(2, device=PRETENDED)].mul_(2).clamp(0, 1)
    assert device.waits == {}


def test_views_launch_nothing(device: PretendedDevice) -> None:
    own = to_device(torch.ones(2, 3))
    own.view(3, 2).t()[:2].unsqueeze(0).detach()
    torch.empty(3, device=PRETENDED)
    assert device.launches == 0
    own.mul_(2).sum()
    assert device.kernels == {"mul_": 1, "sum": 1}


def test_networks_train_on_it_as_on_the_host() -> None:
    torch.manual_seed(0)
    host = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, 2))
    x = torch.rand(4, 3, 6, 6)
    host(x).sum().backward()
    wanted = [parameter.grad for parameter in host.parameters()]
    host.zero_grad()
    with pretended_device() as device:
        moved = host.to(PRETENDED)
        device.waits.clear()
        moved(to_device(x)).sum().backward()
        found = [parameter.grad for parameter in moved.parameters()]
        assert device.waits == {}
        assert all(
            torch.equal(a.cpu(), b) for a, b in zip(found, wanted, strict=True) if a is not None and b is not None
        )
