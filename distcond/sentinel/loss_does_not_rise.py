"""Going up the gradient does not go up: the loss is not higher after a step than before.

Where gradients are zero there is no step; after catastrophic overfitting (Wong et al. 2020; Kim et al. 2021) the loss
falls along its own gradient, because the network has learnt to bend it for steps of just this length.
"""

from __future__ import annotations

from distcond.sentinel.check import Finding
from distcond.sentinel.evidence import Evidence
from distcond.sentinel.exact import LEVEL, upper

NAME = "loss_does_not_rise"
#: Share of the images at which an honest network's loss may fail to rise.
SHARE = 0.1
_MEANING = "gradients do not point uphill (catastrophic overfitting if trained by single steps): train with more steps"


def loss_does_not_rise(evidence: Evidence) -> Finding:
    """Warn if more than `SHARE` of the images have a place on the ray where neither loss nor margin is above clean."""
    ray, clean = evidence.ray, evidence.clean
    flat = ((ray.loss <= clean.loss) & (ray.margin <= clean.margin)).any(0)
    count = int(flat.sum())
    share, p_value = count / max(evidence.size, 1), upper(count, evidence.size, SHARE)
    fact = f"{100 * share:.0f} % of {evidence.size} inputs"
    return Finding(NAME, p_value < LEVEL, share, SHARE, p_value, fact, _MEANING)
