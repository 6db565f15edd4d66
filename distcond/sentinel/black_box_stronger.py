"""A black-box attack breaks what the gradient attack does not: the gradients lead nowhere.

Second of the signs of Athalye et al. (2018, section 3.1); also Carlini et al. (2019, section 4) and the reason for
Square in AutoAttack (Croce and Hein 2020).
"""

from __future__ import annotations

from distcond.sentinel.check import Finding
from distcond.sentinel.evidence import Evidence
from distcond.sentinel.exact import LEVEL, paired

NAME = "black_box_stronger"
_MEANING = "gradients mislead the attack, or it is too weak: its RA is too high, use attack=square or autoattack"


def black_box_stronger(evidence: Evidence) -> Finding | None:
    """Warn if random search alone breaks more images than the many-step gradient attack alone, paired."""
    if evidence.black_box is None:
        return None
    blind, white = evidence.black_box, evidence.path.wrong.any(0)
    searched, graded = int((blind & ~white).sum()), int((white & ~blind).sum())
    p_value = paired(searched, graded)
    fact = f"{searched} of {evidence.size} inputs broken by random search alone, {graded} by gradients alone"
    return Finding(NAME, p_value < LEVEL, searched, graded, p_value, fact, _MEANING)
