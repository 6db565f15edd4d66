"""Every optional training feature with every method: the step is finite, reaches every weight and differs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from distcond.config.overrides import apply_overrides
from distcond.distributed.world import World
from distcond.methods.step_context import StepContext
from distcond.runs.checkpoint import Position
from distcond.runs.run_dir import RunDir
from distcond.training.build_trainer import build_trainer
from distcond.training.epoch import train_step
from distcond.training.fit import begin_stage
from distcond.training.trainer import Trainer
from support.groups import quick, trained

SWITCHES: dict[str, dict[str, Any]] = {
    "averaging": {"optim.averaging": 0.9},
    "awp": {"optim.awp_gamma": 0.05},
    "label_smoothing": {"label_smoothing": 0.2},
    "cutmix": {"data.cutmix": 1.0},
    "extra": {"data.extra_share": 0.5},
}


@pytest.fixture(scope="module")
def extra(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Extra images that differ from digits."""
    path = tmp_path_factory.mktemp("extra") / "extra.npz"
    rng = np.random.default_rng(0)
    np.savez(path, image=rng.integers(0, 256, (60, 8, 8, 3), dtype=np.uint8), label=np.arange(60) % 10)
    return str(path)


def after_steps(config: Any, path: Path, count: int = 2) -> tuple[Trainer, list[Tensor]]:
    """The losses of the first steps of a run."""
    trainer = build_trainer(config, World(), RunDir(path), 0)
    begin_stage(trainer, Position())
    trainer.model.train()
    losses = [
        train_step(trainer, b.step, b.x, b.y, 0.05)[0]
        for b, _ in zip(trainer.train.epoch(0), range(count), strict=False)
    ]
    return trainer, losses


def evaluated(trainer: Trainer) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in trainer.evaluated_model().parameters()])


@pytest.mark.parametrize("switch", SWITCHES)
@pytest.mark.parametrize("method", quick("float", "flying_bird_plus", of=trained()))
def test_step_is_finite_and_differs(small: Any, tmp_path: Path, extra: str, method: str, switch: str) -> None:
    plain = small(method)
    config = apply_overrides(plain, SWITCHES[switch] | ({"data.extra": extra} if switch == "extra" else {}))
    trainer, losses = after_steps(config, tmp_path)
    assert all(loss.isfinite() for loss in losses)
    assert [name for name, parameter in trainer.model.named_parameters() if parameter.grad is None] == []
    assert all(
        parameter.grad.isfinite().all() for parameter in trainer.model.parameters() if parameter.grad is not None
    )
    other, _ = after_steps(plain, tmp_path)
    weights = [torch.cat([p.detach().flatten() for p in j.model.parameters()]) for j in (trainer, other)]
    assert torch.equal(*weights) == (switch == "averaging")
    assert not torch.equal(evaluated(trainer), evaluated(other))
    if trainer.sparsity is not None and "density" in trainer.sparsity.report():
        assert trainer.sparsity.report()["density"] == other.sparsity.report()["density"]  # type: ignore[union-attr]


def test_all_features_together(small: Any, tmp_path: Path, extra: str) -> None:
    everything = {path: value for settings in SWITCHES.values() for path, value in settings.items()}
    trainer, losses = after_steps(apply_overrides(small("floats"), everything | {"data.extra": extra}), tmp_path)
    assert all(loss.isfinite() for loss in losses)
    zero = [p == 0 for name, p in trainer.model.named_parameters() if name.endswith("conv.weight")]
    averaged = [p for name, p in trainer.evaluated_model().named_parameters() if name.endswith("conv.weight")]
    assert all((value[mask] == 0).all() for value, mask in zip(averaged, zero, strict=True))


def test_label_smoothing_is_the_soft_label_loss(small: Any, tmp_path: Path) -> None:
    logits, y = torch.randn(6, 10), torch.arange(6)
    draws: Any = type("Draws", (), {"world": 1, "lam": torch.ones(6)})()
    passes = StepContext(None, None, draws, None, label_smoothing=0.2)  # type: ignore[arg-type]
    soft = torch.nn.functional.one_hot(y, 10) * 0.8 + 0.02
    by_hand = -(soft * logits.log_softmax(1)).sum(1).mean()
    assert torch.allclose(passes.cross_entropy(logits, y), by_hand)
    assert torch.allclose(passes.cross_entropy(logits, torch.nn.functional.one_hot(y, 10).float()), by_hand)
