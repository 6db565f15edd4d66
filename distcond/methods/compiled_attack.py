"""The attack of training as one region for `torch.compile`: `precision.compile=attack`.

All steps of the attack compile into one graph without breaks. What would break it happens before: random numbers are
drawn, conditions made and weights folded in eager mode, for every attack step. The region runs without gradients of the
parameters, and autocast keeps no copies of weights inside, which a captured graph would read after they are freed. On a
GPU it is captured as a CUDA graph, so that a step of the attack launches nothing by itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from distcond.attacks.pgd import Loss, random_start
from distcond.attacks.projection import project, steepest_direction
from distcond.config.schema import AttackConfig
from distcond.layers.condition import Condition
from distcond.models.conditional import ConditionalModel


class CompiledAttack:
    """`distcond.attacks.pgd.pgd` on folded weights, compiled when first called and anew for other shapes.

    Args:
        model: the network, in eval mode in every call.
        attack: the training attack.
        autocast: dtype of the forward passes; None = that of the weights.
        backend: of torch.compile.
    """

    def __init__(
        self, model: ConditionalModel, attack: AttackConfig, autocast: torch.dtype | None, backend: str = "inductor"
    ) -> None:
        self.model, self.attack, self.autocast = model, attack, autocast
        mode = "reduce-overhead" if backend == "inductor" and model.mean.device.type == "cuda" else None
        self.ascend = torch.compile(self._ascend, fullgraph=True, dynamic=False, backend=backend, mode=mode)

    @torch.no_grad()
    def __call__(self, x: Tensor, y: Tensor, conds: Sequence[Condition], unit: Tensor | None, loss: Loss) -> Tensor:
        """Adversarial images for x (N, C, H, W).

        Args:
            x, y, unit, loss: as for `pgd`.
            conds: folded conditions, one for all steps or one for each.
        """
        start = random_start(x, self.attack, unit)
        with torch.autocast(x.device.type, enabled=False):
            found: Tensor = self.ascend(start, x, y, tuple(conds), loss)
        return found.clone()  # a captured graph writes its next result into the same memory

    def _ascend(self, start: Tensor, x: Tensor, y: Tensor, conds: tuple[Condition, ...], loss: Loss) -> Tensor:
        attack, moved = self.attack, start
        for step in range(attack.num_steps):
            cond = conds[step if len(conds) > 1 else 0]

            def objective(at: Tensor, cond: Condition = cond) -> Tensor:
                enabled = self.autocast is not None
                with torch.autocast(at.device.type, dtype=self.autocast, enabled=enabled, cache_enabled=False):
                    return loss(self.model(at, cond), y)

            # Not `input_gradient`: requires_grad_ does not compile in every supported version of torch.
            grad: Tensor = torch.func.grad(objective)(moved)
            moved = moved + attack.step_size * steepest_direction(grad, attack.norm)
            moved = project(moved, x, attack.norm, attack.epsilon)
        return moved
