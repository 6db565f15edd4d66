"""The masking sentinel in a run: a cheap look at the network's gradients beside every sweep.

At frozen noise, since gradients at fresh draws differ by design. It draws from no generator of the run and works on
the network that is being evaluated, so a run with it has the bits of a run without.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from distcond.config.schema import AttackConfig
from distcond.data.loader import to_float
from distcond.engine.evaluate import Blocks
from distcond.gradient_masking.diagnose import Diagnosis, diagnose
from distcond.gradient_masking.evidence import PROBE
from distcond.models.conditional import ConditionalModel
from distcond.models.dial import network_at
from distcond.operating_point import OperatingPoint
from distcond.results.labels import trains_on_attacks
from distcond.runs.build import full_float32
from distcond.seeding import key
from distcond.training.trainer import Trainer

#: (operating point, width multiplier).
Place = tuple[OperatingPoint, float]

#: Most examples per operating point.
EXAMPLES = 64
#: Fewest: with less, nothing short of a broken network would be significant.
FEWEST = 16
#: Most of a rank's work that goes into looking.
SHARE = 0.02


def looked_at(
    job: Trainer,
    model: ConditionalModel,
    blocks: Blocks,
    attack: AttackConfig,
    points: Iterable[OperatingPoint],
    work: float,
) -> dict[Place, Diagnosis]:
    """Reports on `model` at full width, by (point, width), from as many examples as `affordable` allows.

    Empty on all ranks but the first, too: there is no collective in here.
    """
    places = tuple(points)
    trained = job.config.attack if trains_on_attacks(job.config) else None
    examples = affordable(len(blocks), len(places), attack, work, trained)
    if not job.world.first or not examples:
        return {}
    ((raw, y),) = blocks.source.read([blocks.some(examples)])
    x, seed, noise_seed = to_float(raw), key(job.config.seed, "sentinel"), job.config.eval.noise_seed
    with full_float32():
        return {
            (point, 1.0): diagnose(network, x, y, attack, seed, PROBE, trained if point.robust else None)
            for point in places
            for network in [network_at(model, point, noise_seed=noise_seed)]
        }


def affordable(
    available: int, points: int, attack: AttackConfig, work: float, trained: AttackConfig | None = None
) -> int:
    """How many examples `SHARE` of `work` pays for at each of so many points; 0 if they are too few to say anything.

    Args:
        available: how many there are.
        points: operating points that are looked at.
        attack: the attack of the sweep.
        work: forward-equivalents that this rank spends on what the look belongs to.
        trained: the attack of training, if any.
    """
    examples = min(EXAMPLES, available, int(SHARE * work / (points * PROBE.forwards(attack, trained))))
    return examples if examples >= FEWEST else 0


def sweep_work(attack: AttackConfig, rows: float) -> float:
    """Forward-equivalents of a sweep that brings `rows` rows to this rank: answers clean and attacked."""
    return rows * (1.0 + attack.restarts * (2 * attack.num_steps + 1))


def training_work(job: Trainer) -> float:
    """Forward-equivalents of the epoch that this rank has just trained; 0 before the first step."""
    return sum(job.sums.spent) if job.sums is not None else 0.0


def names(reports: Mapping[Place, Diagnosis]) -> dict[Place, str]:
    """What rows hold."""
    return {place: report.names for place, report in reports.items()}
