"""A training step as a module that DDP wraps: one DDP forward per step and one reduction per gradient."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from distcond.config.schema import AttackConfig
from distcond.layers.dual_norm import DualBatchNorm2d
from distcond.methods.compiled_attack import CompiledAttack
from distcond.methods.method import Objective
from distcond.methods.step_context import AttackMode, Outcome, StepContext, StepRandomness
from distcond.methods.stopwatch import NULL_TIMER
from distcond.methods.weight_perturbation import WeightPerturbation
from distcond.models.conditional import ConditionalModel


class TrainStep(nn.Module):
    """Model and objective: `forward(x, y, randomness)` runs the passes of the method and returns loss and counts.

    Args:
        model: the bare conditional model. Attacks run on it without DDP.
        objective: the method's loss.
        attack: the training attack.
        autocast: dtype of the forward passes; None = that of the weights.
        fold_attack: attack a folded copy of the weights.
        label_smoothing: share of every label spread over all classes, in [0, 1).
        attack_mode: mode of the network under attack, "eval" or "train".
        awp_gamma: relative size of the adversarial weight perturbation; 0 = none. Call `after_backward` after every
            backward if it is not 0.
        compiled_attack: runs attacks on folded weights; None = eager.
    """

    def __init__(
        self,
        model: ConditionalModel,
        objective: Objective,
        attack: AttackConfig,
        autocast: torch.dtype | None = None,
        fold_attack: bool = True,
        label_smoothing: float = 0.0,
        awp_gamma: float = 0.0,
        attack_mode: AttackMode = "eval",
        compiled_attack: CompiledAttack | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.objective = objective
        self.attack, self.attack_mode = attack, attack_mode
        self.autocast = autocast
        self.fold_dtype = (autocast or torch.float32) if fold_attack else None
        self.label_smoothing = label_smoothing
        self.compiled_attack = compiled_attack
        self.perturbation = WeightPerturbation(model, awp_gamma) if awp_gamma else None
        self.spent: dict[int, float] = {}  # cost of the last step, see `StepContext.spent`
        self.watch = NULL_TIMER
        self.two_paths = any(isinstance(module, DualBatchNorm2d) for module in model.modules())

    def forward(self, x: Tensor, y: Tensor, randomness: StepRandomness) -> Outcome:
        step = StepContext(
            self.model, self.attack, randomness, self.fold_dtype, self.label_smoothing, self.watch, self.attack_mode,
            self.compiled_attack,
        )  # fmt: skip
        if self.perturbation is not None:
            self.perturbation.apply(lambda: self._run_objective(step, x, y).loss)
        outcome = self._run_objective(step, x, y)
        self.spent = step.spent
        one_path = randomness.common_route(randomness.all_rows(), self.model.routing) is not None
        return self._touch_all_parameters(outcome) if self.two_paths and one_path else outcome

    def after_backward(self) -> None:
        """Restore perturbed weights before the optimiser updates them."""
        if self.perturbation is not None:
            self.perturbation.undo()

    def _run_objective(self, step: StepContext, x: Tensor, y: Tensor) -> Outcome:
        # A new context each time: autocast caches copies of the weights until the context ends.
        with torch.autocast(x.device.type, dtype=self.autocast, enabled=self.autocast is not None):
            return self.objective(step, x, y)

    def _touch_all_parameters(self, outcome: Outcome) -> Outcome:
        """Add zero gradients for the path that no row took, because DDP waits for every parameter."""
        zero = torch.stack([parameter.sum() for parameter in self.model.parameters()]).sum() * 0
        return outcome._replace(loss=outcome.loss + zero)
