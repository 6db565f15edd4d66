"""The masking sentinel: all checks of this room on one network."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from distcond.attacks.attack import Logits
from distcond.config.schema import AttackConfig
from distcond.sentinel.black_box_stronger import black_box_stronger
from distcond.sentinel.check import Finding
from distcond.sentinel.evidence import FULL, Depth, gather
from distcond.sentinel.exact import LEVEL, upper
from distcond.sentinel.larger_epsilon_does_not_help import larger_epsilon_does_not_help
from distcond.sentinel.loss_does_not_rise import loss_does_not_rise
from distcond.sentinel.more_steps_do_not_help import more_steps_do_not_help
from distcond.sentinel.random_answers import random_answers
from distcond.sentinel.single_step_stronger import single_step_stronger
from distcond.sentinel.training_attack_too_weak import training_attack_too_weak
from distcond.sentinel.zero_gradients import zero_gradients

CHECKS = (
    zero_gradients,
    single_step_stronger,
    black_box_stronger,
    more_steps_do_not_help,
    larger_epsilon_does_not_help,
    loss_does_not_rise,
    training_attack_too_weak,
    random_answers,
)


class Report(NamedTuple):
    """What the checks found, those that were made."""

    findings: tuple[Finding, ...]

    @property
    def warned(self) -> tuple[Finding, ...]:
        """The findings that are warnings."""
        return tuple(finding for finding in self.findings if finding.warned)

    @property
    def names(self) -> str:
        """The names of the warnings, comma-separated: what a row holds."""
        return ",".join(finding.name for finding in self.warned)

    @property
    def facts(self) -> dict[str, str]:
        """Name of each warning to what was seen, for people."""
        return {finding.name: finding.fact for finding in self.warned}


def examine(
    logits: Logits,
    x: Tensor,
    y: Tensor,
    config: AttackConfig,
    seed: int,
    depth: Depth = FULL,
    trained: AttackConfig | None = None,
) -> Report:
    """Look for masked gradients in a network under the attack of `config`.

    Args:
        logits: images (N, C, H, W) in [0, 1] to logits (N, K), at frozen noise: one that does not answer the same each
            time is warned of.
        x, y: images and labels (N,); 64 or more are enough. Those answered wrongly without attack are left out.
        seed: of the attacks' random starts.
        depth: how much to look at.
        trained: the attack the network was trained on at this operating point, if any.

    Returns:
        The checks that the depth allows; none where the ball has no radius, the attack no steps, or the network is
        not above guessing: one that always gives the same answer cannot be broken either.
    """
    if not config.epsilon or not depth.steps(config):
        return Report(())
    evidence = gather(logits, x, y, config, seed, depth, trained)
    if upper(evidence.size, evidence.looked_at, 1 / evidence.classes) >= LEVEL:
        return Report(())
    findings = (check(evidence) for check in CHECKS)
    return Report(tuple(finding for finding in findings if finding is not None))
