"""Images at which the loss has no gradient at all: no gradient attack can begin there.

Athalye et al. (2018, section 2) call such gradients shattered or vanishing; rounding and saturation make them.
"""

from __future__ import annotations

import torch

from distcond.sentinel.check import Finding
from distcond.sentinel.evidence import Evidence
from distcond.sentinel.exact import LEVEL, upper

NAME = "zero_gradients"
#: Share of the images at which an honest network's float32 gradient may vanish.
SHARE = 0.05
_MEANING = "the loss has no gradient there (rounding, saturation): use attack=cw or square, or attack without that part"


def zero_gradients(evidence: Evidence) -> Finding:
    """Warn if the share of images without gradient is above `SHARE`. Below the smallest normal float32 is zero."""
    count = int((evidence.gradient < torch.finfo(torch.float32).tiny).sum())
    share, p_value = count / max(evidence.size, 1), upper(count, evidence.size, SHARE)
    fact = f"{100 * share:.0f} % of {evidence.size} inputs"
    return Finding(NAME, p_value < LEVEL, share, SHARE, p_value, fact, _MEANING)
