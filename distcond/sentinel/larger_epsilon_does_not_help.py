"""A larger ball gives the attacker nothing, or an unbounded one not everything.

Athalye et al. (2018, section 3.1): "unbounded attacks do not reach 100 % success", "increasing the distortion bound
does not increase success". Along the gradient's own ray the same is the distorted boundary of catastrophic overfitting
(Kim et al. 2021): a shorter step breaks what the whole step does not.
"""

from __future__ import annotations

from torch import Tensor

from distcond.sentinel.check import Finding
from distcond.sentinel.evidence import SHARES, UNBOUNDED, Evidence
from distcond.sentinel.exact import LEVEL, paired, upper

NAME = "larger_epsilon_does_not_help"
#: Share of the images that may survive an attack whose ball holds a grey image: the luck of ten classes.
SURVIVORS = 0.1
_MEANING = "the attack does not use its room (catastrophic overfitting, stuck gradients): use attack=autoattack"


def larger_epsilon_does_not_help(evidence: Evidence) -> Finding:
    """Warn on survivors of the unbounded attack, or if a shorter step alone breaks more than the whole one alone.

    The level is shared between all of these comparisons.
    """
    found = [_shorter(evidence.ray.wrong, place, evidence.size) for place in range(len(SHARES) - 1)]
    if evidence.unbounded is not None:
        found.append(_unbounded(int((~evidence.unbounded.wrong.any(0)).sum()), evidence.size))
    worst = min(found, key=lambda finding: finding.p_value)
    p_value = min(1.0, worst.p_value * len(found))
    return worst._replace(p_value=p_value, warned=p_value < LEVEL)


def _shorter(wrong: Tensor, place: int, size: int) -> Finding:
    short, whole = (int((wrong[a] & ~wrong[b]).sum()) for a, b in ((place, -1), (-1, place)))
    fact = f"{short} of {size} inputs broken by {SHARES[place]:g} epsilon alone, {whole} by the whole of it alone"
    return Finding(NAME, False, short, whole, paired(short, whole), fact, _MEANING)


def _unbounded(alive: int, size: int) -> Finding:
    share = alive / max(size, 1)
    fact = f"{100 * share:.0f} % of {size} inputs survive epsilon {UNBOUNDED:g}"
    return Finding(NAME, False, share, SURVIVORS, upper(alive, size, SURVIVORS), fact, _MEANING)
