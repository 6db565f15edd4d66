"""One training step as a module: DDP wraps it, so there is one DDP forward per step and one reduction per gradient."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from distcond.config.schema import AttackConfig
from distcond.layers.dual_norm import DualBatchNorm2d
from distcond.methods.method import Objective
from distcond.methods.step_context import Outcome, StepContext, StepRandomness
from distcond.methods.stopwatch import NULL_TIMER
from distcond.methods.weight_perturbation import WeightPerturbation
from distcond.models.conditional import ConditionalModel


class TrainStep(nn.Module):
    """Model and objective: `forward(x, y, draws)` does the passes in the paper's order and gives the loss.

    Args:
        model: the bare conditional model; the attack runs on it, out of DDP's sight.
        objective: the method's loss.
        attack: the attack of training.
        autocast: number format of the forward passes, None = as the weights are.
        fold_attack: attack a folded copy of the weights.
        label_smoothing: share of every label spread over all classes, in [0, 1).
        awp_gamma: size of the adversarial weight perturbation, 0 = none. With one, `after_backward` has to follow
            every backward.
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
    ) -> None:
        super().__init__()
        self.model = model
        self.objective = objective
        self.attack = attack
        self.autocast = autocast
        self.fold_dtype = (autocast or torch.float32) if fold_attack else None
        self.label_smoothing = label_smoothing
        self.perturbation = WeightPerturbation(model, awp_gamma) if awp_gamma else None
        self.spent: dict[int, float] = {}  # what the last step cost, see Passes
        self.watch = NULL_TIMER
        self.two_paths = any(isinstance(module, DualBatchNorm2d) for module in model.modules())

    def forward(self, x: Tensor, y: Tensor, draws: StepRandomness) -> Outcome:
        passes = StepContext(self.model, self.attack, draws, self.fold_dtype, self.label_smoothing, self.watch)
        if self.perturbation is not None:
            self.perturbation.apply(lambda: self._outcome(passes, x, y).loss)
        outcome = self._outcome(passes, x, y)
        self.spent = passes.spent
        one_path = draws.common_route(draws.everything(), self.model.routing) is not None
        return self._with_every_parameter(outcome) if self.two_paths and one_path else outcome

    def after_backward(self) -> None:
        """Put perturbed weights back where they were, before the optimiser moves them."""
        if self.perturbation is not None:
            self.perturbation.undo()

    def _outcome(self, passes: StepContext, x: Tensor, y: Tensor) -> Outcome:
        # A context of its own each time: autocast keeps its copies of the weights until it is left.
        with torch.autocast(x.device.type, dtype=self.autocast, enabled=self.autocast is not None):
            return self.objective(passes, x, y)

    def _with_every_parameter(self, outcome: Outcome) -> Outcome:
        """The same loss with a gradient of zero to the path that no row took: DDP waits for every parameter."""
        nothing = torch.stack([parameter.sum() for parameter in self.model.parameters()]).sum() * 0
        return outcome._replace(loss=outcome.loss + nothing)
