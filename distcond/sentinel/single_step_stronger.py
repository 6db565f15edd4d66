"""One step to the rim of the ball breaks what many steps do not: the many-step attack is stuck or set too weak.

First of the signs of Athalye et al. (2018, section 3.1): "one-step attacks perform better than iterative attacks".
"""

from __future__ import annotations

from distcond.sentinel.check import Finding
from distcond.sentinel.evidence import Evidence
from distcond.sentinel.exact import LEVEL, paired

NAME = "single_step_stronger"
_MEANING = "the many-step attack is stuck or too weak: raise eval.attack.num_steps or step_size, try attack=apgd-ce"


def single_step_stronger(evidence: Evidence) -> Finding:
    """Warn if FGSM alone breaks more images than the many-step attack alone, paired image by image."""
    one, many = evidence.ray.wrong[-1], evidence.path.wrong.any(0)
    single, iterated = int((one & ~many).sum()), int((many & ~one).sum())
    p_value = paired(single, iterated)
    fact = f"{single} of {evidence.size} inputs broken by one step alone, {iterated} by many alone"
    return Finding(NAME, p_value < LEVEL, single, iterated, p_value, fact, _MEANING)
