"""Runs all checks for masked gradients on one network."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from distcond.attacks.attack import Logits
from distcond.config.schema import AttackConfig
from distcond.gradient_masking.checks import (
    SIGNIFICANCE_LEVEL,
    Finding,
    binomial_tail,
    black_box_stronger,
    larger_epsilon_does_not_help,
    loss_does_not_rise,
    more_steps_do_not_help,
    random_answers,
    single_step_stronger,
    training_attack_too_weak,
    zero_gradients,
)
from distcond.gradient_masking.evidence import FULL, Depth, gather_evidence

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


class Diagnosis(NamedTuple):
    """The findings of the checks that were run."""

    findings: tuple[Finding, ...]

    @property
    def warned(self) -> tuple[Finding, ...]:
        """The findings that are warnings."""
        return tuple(finding for finding in self.findings if finding.warned)

    @property
    def names(self) -> str:
        """The names of the warnings, comma-separated, as in result rows."""
        return ",".join(finding.name for finding in self.warned)

    @property
    def facts(self) -> dict[str, str]:
        """Name of each warning -> the observation, for people."""
        return {finding.name: finding.fact for finding in self.warned}


def diagnose(
    logits: Logits,
    x: Tensor,
    y: Tensor,
    config: AttackConfig,
    seed: int,
    depth: Depth = FULL,
    trained: AttackConfig | None = None,
) -> Diagnosis:
    """Check a network for masked gradients under the attack of `config`.

    Args:
        logits: images (N, C, H, W) in [0, 1] to logits (N, K), with frozen noise; random outputs give a warning.
        x, y: images and labels (N,); 64 are enough. Misclassified images are skipped.
        config: the evaluation attack.
        seed: seed of the attacks' random starts.
        depth: which checks to run, and with how many steps.
        trained: the training attack at this operating point, if any.

    Returns:
        The findings that `depth` allows. Empty if epsilon or the number of steps is 0, or if the accuracy is not above
        chance: a constant prediction cannot be broken either.
    """
    if not config.epsilon or not depth.steps(config):
        return Diagnosis(())
    evidence = gather_evidence(logits, x, y, config, seed, depth, trained)
    if binomial_tail(evidence.size, evidence.num_examples, 1 / evidence.classes) >= SIGNIFICANCE_LEVEL:
        return Diagnosis(())
    findings = (check(evidence) for check in CHECKS)
    return Diagnosis(tuple(finding for finding in findings if finding is not None))
