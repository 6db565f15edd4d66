"""A small run to evaluate, and what evaluations of it gave."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from distcond.evaluate import plan_evaluation
from distcond.evaluation.blocks import BlockEvaluator
from distcond.evaluation.plan import EvalPlan
from distcond.evaluation.rows import tally


@pytest.fixture
def plan(trained: Path, tmp_path: Path) -> Callable[..., EvalPlan]:
    """`plan(*words)`: of an evaluation of a copy of the trained run, which has no outcomes yet; without the sentinel,
    which costs more than all else here."""
    shutil.copytree(trained, tmp_path / "run", dirs_exist_ok=True, ignore=shutil.ignore_patterns("outcomes"))

    def made(*words: str) -> EvalPlan:
        return plan_evaluation(
            [str(tmp_path / "run"), "eval.test_examples=40", "eval.batch_size=16", "eval.sentinel=off", *words]
        )

    return made


@pytest.fixture(scope="session")
def carried_out() -> Callable[..., BlockEvaluator]:
    """`carried_out(plan, order=None)`: counted here, block by block, in an order if one is given."""

    def counted(plan: EvalPlan, order: list[int] | None = None) -> BlockEvaluator:
        counter = BlockEvaluator(plan, torch.device("cpu"))
        for block in order if order is not None else range(plan.blocks):
            counter(block)
        return counter

    return counted


@pytest.fixture(scope="session")
def correct() -> Callable[[EvalPlan], dict[tuple[Any, ...], np.ndarray]]:
    """`correct(plan)`: (attack, lam, noise, lam of the attack) to which examples count as right, (n,) bool."""

    def found(plan: EvalPlan) -> dict[tuple[Any, ...], np.ndarray]:
        return {
            (m.attack.name if m.attack else "none", m.lam, m.noise, m.attack_lam): tally(plan, m).correct
            for m in plan.cells()
        }

    return found
