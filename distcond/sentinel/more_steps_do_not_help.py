"""The attack is where it was after a quarter of its steps: gradients give it no direction.

Carlini et al. (2019, section 4): more iterations have to help until the attack has converged. At a quarter of the
usual steps it has not: on an honest network nearly every image's loss is highest later.
"""

from __future__ import annotations

from torch import Tensor

from distcond.sentinel.check import Finding
from distcond.sentinel.evidence import Evidence
from distcond.sentinel.exact import LEVEL, upper

NAME = "more_steps_do_not_help"
#: Share of the images at which an honest network's attack may be done early.
SHARE = 0.5
_MEANING = "the attack gets nowhere after its start: use attack=apgd-ce or square and look at the step size"


def more_steps_do_not_help(evidence: Evidence) -> Finding:
    """Warn if for more than `SHARE` of the images neither loss nor margin rises after the first quarter of steps."""
    path = evidence.path
    early = 1 + max(1, (len(path.loss) - 1) // 4)
    stuck = ~(_later(path.loss, early) | _later(path.margin, early)) if early < len(path.loss) else path.wrong[0]
    count = int(stuck.sum())
    share, p_value = count / max(evidence.size, 1), upper(count, evidence.size, SHARE)
    fact = f"{100 * share:.0f} % of {evidence.size} inputs"
    return Finding(NAME, p_value < LEVEL, share, SHARE, p_value, fact, _MEANING)


def _later(values: Tensor, early: int) -> Tensor:
    """Whether the highest of (T, N) values comes after the first `early`."""
    return values[early:].amax(0) > values[:early].amax(0)
