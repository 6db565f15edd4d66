"""OAT's wide ResNet against the code of its authors, where a checkout of it is at hand.

    git clone https://github.com/VITA-Group/Once-for-All-Adversarial-Training
    DISTCOND_OAT_CHECKOUT=Once-for-All-Adversarial-Training python -m pytest tests/models/test_wide_resnet_authors.py

In float64, on the CPU: their WRN-16-8 with our weights, dropout included.
"""

from __future__ import annotations

import os
import re
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch
from torch import Tensor

from distcond.layers.condition import Condition
from distcond.layers.layer_set import film_layers
from distcond.models import wide_resnet
from distcond.models.preact_resnet import PreActResNet

CHECKOUT = os.environ.get("DISTCOND_OAT_CHECKOUT", "")
pytestmark = [
    pytest.mark.skipif(not CHECKOUT, reason="DISTCOND_OAT_CHECKOUT names no checkout of OAT's authors' code"),
    pytest.mark.cluster,
]
LAM = torch.tensor([0.0, 0.0, 0.1, 0.4, 1.0, 1.0])
ZEROS, DIM = 2, 16
BLOCKS_PER_STAGE = 2


def their_name(name: str) -> str:
    """Ours for a parameter or buffer to theirs."""
    for ours, other in (
        (r"^blocks\.(\d+)\.", lambda at: "bundle{}.{}.".format(*_place(int(at[1])))),
        (r"norm1\.norm\.", "bn1."),
        (r"norm1\.modulate\.", "film1."),
        (r"unit1\.conv\.", "conv1."),
        (r"unit1\.norm\.", "bn2."),
        (r"unit1\.modulate\.", "film2."),
        (r"conv2\.conv\.", "conv2."),
        (r"shortcut\.conv\.", "convShortcut."),
        (r"^stem\.conv\.", "conv1."),
        (r"^last\.norm\.", "bn1."),
        (r"^linear\.", "fc."),
        (r"\.clean\.", ".BN_c."),
        (r"\.adv\.", ".BN_a."),
        (r"\.hidden\.", ".MLP.0."),
        (r"\.out\.", ".MLP.2."),
    ):
        name = re.sub(ours, other, name)  # type: ignore[arg-type]
    return name


def _place(block: int) -> tuple[int, int]:
    return block // BLOCKS_PER_STAGE + 1, block % BLOCKS_PER_STAGE


def test_the_same_weights_give_the_same_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(CHECKOUT).absolute()))
    try:
        theirs = import_module("models.svhn.wide_resnet_OAT").WRN16_8OAT(use2BN=True, FiLM_in_channels=DIM).double()
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "models"]:
            del sys.modules[name]
    options = wide_resnet.WideResNetOptions(depths=(2, 2, 2), widths=(128, 256, 512), dropout=0.3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        ours: PreActResNet = wide_resnet.build(film_layers(DIM), 10, options).double()
    theirs.load_state_dict({their_name(name): value for name, value in ours.state_dict().items()})
    source = torch.Generator().manual_seed(1)
    x = torch.rand(len(LAM), 3, 32, 32, generator=source, dtype=torch.float64)
    code = torch.rand(len(LAM), DIM, generator=source, dtype=torch.float64)
    cond = Condition(LAM, LAM > 0, code=code)
    for training in (True, False):
        ours.train(training)
        theirs.train(training)
        logits: list[Tensor] = []
        for call in (lambda: ours(x, cond), lambda: theirs(x, code[:, None], ZEROS)):
            with torch.no_grad(), torch.random.fork_rng(devices=[]):
                torch.manual_seed(2)
                logits.append(call())
        # Our statistics are in float32.
        assert torch.allclose(*logits, rtol=0, atol=1e-4 * logits[1].abs().max().item())
