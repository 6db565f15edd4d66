"""Validation in reduced precision: its rows say so, and final numbers stay float32."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from distcond.results.store import read_rows
from distcond.runs.build import evaluation_precision
from distcond.training import validate

CPU = torch.device("cpu")


def flags() -> tuple[bool, bool]:
    return torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32


@pytest.mark.parametrize(
    ("name", "dtype", "tf32"),
    [("float32", torch.float32, False), ("tf32", torch.float32, True), ("bf16", torch.bfloat16, False)],
)
def test_networks_run_in_the_named_format(name: str, dtype: torch.dtype, tf32: bool) -> None:
    before = flags()
    with evaluation_precision(name, CPU):
        assert flags() == (tf32, tf32)
        assert nn.Conv2d(1, 1, 1)(torch.ones(1, 1, 2, 2)).dtype == dtype
    assert flags() == before
    assert nn.Conv2d(1, 1, 1)(torch.ones(1, 1, 2, 2)).dtype == torch.float32


def test_only_validation_runs_in_reduced_precision(small: Any, whole: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = set[tuple[str, torch.dtype]]()
    counted = validate.run_sweep

    def watched(trainer: Any, plan: Any, model: nn.Module, *arguments: Any, **options: Any) -> Any:
        def note(module: nn.Module, inputs: Any, logits: Tensor) -> None:
            if len(logits) > 1:  # one image counts FLOPs
                seen.add((plan.spec.split, logits.dtype))

        hook = model.register_forward_hook(note)
        try:
            return counted(trainer, plan, model, *arguments, **options)
        finally:
            hook.remove()

    monkeypatch.setattr(validate, "run_sweep", watched)
    path = whole(small("pgd_at", epochs=1, precision__validation="bf16", precision__train="float32"))
    assert {(row.split, row.precision) for row in read_rows(path)} == {
        ("val", "bf16"), ("test", "float32"), ("train", "float32")
    }  # fmt: skip
    assert seen == {("val", torch.bfloat16), ("test", torch.float32), ("train", torch.float32)}
