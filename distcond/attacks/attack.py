"""`Attack`: a named attack, or a named cascade of attacks; every module of this package exports some.

An attack gets `x -> logits`, labels, an `AttackConfig` and a seed per example. It knows nothing of lam, the network or
the run, so the same attack serves every network, operating point and threat model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor

from distcond.attacks.starts import Seeds
from distcond.config.schema import AttackConfig

#: Images (N, C, H, W) in [0, 1] to logits (N, K). One with a true attribute `random` answers differently each time;
#: without the attribute, FAB and Square test it (`randomness.is_random`). An attribute `draws` says over how
#: many answers an attack that ranks by their mean loss takes it. A true `break_only` says that every image is
#: classified rightly and only whether that can be changed counts (see `stops_when_broken`).
Logits = Callable[[Tensor], Tensor]

#: (logits, x, y, config, seeds) to the strongest images found, shape of x: those that change the answer where there
#: are any, else those of the highest loss; of a random network those of the highest loss, whatever it answered.
#: Within the threat model and [0, 1]; a function of the arguments alone.
Run = Callable[[Logits, Tensor, Tensor, AttackConfig, Seeds], Tensor]


#: Names of attacks in earlier versions: command lines may use them for one more, files of runs for ever.
EARLIER_NAMES = {"pgd-best": "pgd"}


def is_deterministic(logits: Logits) -> bool:
    """Whether a wrong answer stays wrong. A random network's may hold for one draw only."""
    return not getattr(logits, "random", False)


def stops_when_broken(logits: Logits) -> bool:
    """Whether an attack may stop an example at its first wrong answer and skip the last evaluation.

    True where the caller evaluates the images on this very network and counts wrong answers only.
    """
    return is_deterministic(logits) and getattr(logits, "break_only", False)


def as_configured(config: AttackConfig, given: frozenset[str]) -> AttackConfig:
    """The steps, restarts and step size of the run's own attack."""
    return config


def protocol(num_steps: int) -> Callable[[AttackConfig, frozenset[str]], AttackConfig]:
    """For attacks with a protocol, starts and a step size of their own: `num_steps` and one restart unless given."""

    def settle(config: AttackConfig, given: frozenset[str]) -> AttackConfig:
        steps = config.num_steps if "num_steps" in given else num_steps
        restarts = config.restarts if "restarts" in given else 1
        return replace(config, num_steps=steps, restarts=restarts, step_size=0.0, random_start=False)

    return settle


@dataclass(frozen=True)
class Attack:
    """A named attack, or a cascade of several: an example that one stage breaks is not shown to the next.

    Attributes:
        run: the attack; None for a cascade.
        stages: the attacks of a cascade, cheapest first.
        settle: (the config's attack, which of its settings the user gave by name) to what this attack will use.
        eot_draws: draws of a random network that the attack averages over by itself; 1 = none.
        min_classes: the fewest classes its loss is defined for.
        refuses_random: whether it stops at the first wrong answer, which one draw of a random network may have been.
        ranks_draws: whether it ranks a random network's answers by their mean loss over as many draws as it is told.
    """

    name: str
    summary: str
    run: Run | None = None
    stages: tuple[Attack, ...] = ()
    settle: Callable[[AttackConfig, frozenset[str]], AttackConfig] = as_configured
    eot_draws: int = 1
    min_classes: int = 2
    refuses_random: bool = False
    ranks_draws: bool = False

    def __post_init__(self) -> None:
        assert (self.run is None) == bool(self.stages), f"{self.name}: either one attack or stages"

    @property
    def cascade(self) -> tuple[Attack, ...]:
        """The stages; an attack by itself is its only one."""
        return self.stages or (self,)
