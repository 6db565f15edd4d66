"""Many steps break most of what the attack of training leaves: the network has learnt that attack, not the ball.

Catastrophic overfitting of single-step training (Wong et al. 2020, section 5; Andriushchenko and Flammarion 2020):
robust accuracy under the training's own step stays high while that under PGD falls to nothing.
"""

from __future__ import annotations

from distcond.sentinel.check import Finding
from distcond.sentinel.evidence import Evidence
from distcond.sentinel.exact import LEVEL, upper

NAME = "training_attack_too_weak"
#: Share of what the attack of training leaves that many steps may break of an honest network.
SHARE = 0.5
_MEANING = "training overfitted to its own attack (collapse of single-step training): raise attack.num_steps"


def training_attack_too_weak(evidence: Evidence) -> Finding | None:
    """Warn if many steps break more than `SHARE` of the images that the attack of training leaves right."""
    if evidence.left is None or evidence.many is None:
        return None
    left, broken = int(evidence.left.sum()), int((evidence.left & evidence.many).sum())
    p_value = upper(broken, left, SHARE)
    fact = f"many steps break {broken} of the {left} inputs of {evidence.size} that the training's own attack leaves"
    return Finding(NAME, p_value < LEVEL, broken / max(left, 1), SHARE, p_value, fact, _MEANING)
