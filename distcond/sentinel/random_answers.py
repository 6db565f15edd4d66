"""The same question has two answers: the network draws at random (dropout, random resizing, random contrast).

Third of the signs of Athalye et al. (2018, section 2, stochastic gradients). Weight noise is frozen for the look and is
not meant: this is randomness that no noise mode of the evaluation knows of.
"""

from __future__ import annotations

from distcond.attacks.randomness import TOLERANCE
from distcond.sentinel.check import Finding
from distcond.sentinel.evidence import Evidence

NAME = "random_answers"
_MEANING = "the network draws at random by itself: the next answer is another; an attack has to average over draws"


def random_answers(evidence: Evidence) -> Finding:
    """Warn if an answer to the same images was another one; no chance is in it but the network's."""
    warned = evidence.spread > TOLERANCE
    fact = f"answers to the same images differ by {evidence.spread:.2g}"
    return Finding(NAME, warned, evidence.spread, TOLERANCE, 0.0 if warned else 1.0, fact, _MEANING)
