"""Looks at gradients beside the counting: the masking sentinel, and how far reduced precision would mislead an attack.

The sentinel works at frozen noise, since gradients at fresh draws differ by design. It draws from no generator of the
run and works on the network that is being evaluated, so a run with it has the bits of a run without. Beside the sweeps
of a run it is cheap; in an evaluation there is one full report per operating point, in a file beside the outcomes.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from distcond.atomic_io import read_json, write_json
from distcond.attacks.attack import Logits
from distcond.attacks.pgd import input_gradient, summed_cross_entropy
from distcond.config.schema import AttackConfig
from distcond.data.loader import to_float
from distcond.data.prepare import open_source, prepare_data
from distcond.data.sources import Source
from distcond.data.splits import budget_rows
from distcond.errors import ConfigError
from distcond.evaluation.networks import network_of
from distcond.evaluation.plan import EvalPlan
from distcond.gradient_masking.checks import Finding
from distcond.gradient_masking.diagnose import Diagnosis, diagnose
from distcond.gradient_masking.evidence import FULL, PROBE
from distcond.models.conditional import ConditionalModel
from distcond.models.dial import network_at
from distcond.operating_point import OperatingPoint
from distcond.results.labels import trains_on_attacks
from distcond.runs.build import full_float32
from distcond.seeding import key

#: Most examples per operating point beside a sweep of a run.
EXAMPLES = 64
#: Fewest: with less, nothing short of a broken network would be significant.
FEWEST = 16
#: Most of a rank's work that goes into looking.
SHARE = 0.02
#: Examples of a full report: 288 forward passes of each at 20 attack steps.
FULL_EXAMPLES = 128
#: Images whose gradient signs are compared: enough pixels for a share, few enough to take seconds.
SIGN_EXAMPLES = 64


def probe(
    plan: EvalPlan,
    model: ConditionalModel,
    source: Source,
    attack: AttackConfig,
    points: Iterable[OperatingPoint],
    work: float,
) -> dict[OperatingPoint, Diagnosis]:
    """Cheap reports on a run's network at some points, from as many examples as `affordable` allows."""
    points, trained = tuple(points), plan.config.attack if trains_on_attacks(plan.config) else None
    examples = affordable(plan.examples, len(points), attack, work, trained)
    if not examples:
        return {}
    ((raw, y),) = source.read([plan.layout.some(examples, source.labels)])
    x, seed = to_float(raw), key(plan.config.seed, "sentinel")
    with full_float32():
        return {
            point: diagnose(network_at(model, point), x, y, attack, seed, PROBE, trained if point.robust else None)
            for point in points
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


def write_reports(plan: EvalPlan, model: ConditionalModel, source: Source) -> None:
    """Look at every operating point that has no full report yet; `model` is in eval mode and in float32."""
    missing = {point: file for point, file in plan.sentinel_files().items() if not file.exists()}
    if not missing:
        return
    ((raw, y),) = source.read([plan.layout.some(FULL_EXAMPLES, source.labels)])
    x, seed = to_float(raw).contiguous(), key(plan.config.seed, "sentinel")
    for point, file in missing.items():
        learnt = plan.config.attack if trains_on_attacks(plan.config) and point.robust else None
        report = diagnose(network_at(model, point), x, y, plan.config.eval.attack, seed, FULL, learnt)
        write_json(file, [finding._asdict() for finding in report.findings])


def report_at(plan: EvalPlan, point: OperatingPoint) -> Diagnosis:
    """The full report on an operating point; an empty one where the sentinel is off.

    Raises:
        ConfigError: its file cannot be read.
    """
    file = plan.sentinel_files().get(point)
    return _read(file) if file is not None else Diagnosis(())


def explained(plan: EvalPlan) -> str:
    """What every report warns of, with what it rests on and what to do: a line each; "" without warnings."""
    lines: list[str] = []
    for point in plan.sentinel_files():
        where = str(point) + (" width 1" if len(plan.width_mults) > 1 and point.width == 1 else "")
        for finding in report_at(plan, point).warned:
            lines.append(f"{finding.name} at {where} ({finding.fact}): {finding.meaning}")
    return "\n".join(lines)


def _read(file: Path) -> Diagnosis:
    try:
        return Diagnosis(tuple(Finding(**values) for values in read_json(file)))
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{file} is no report of the sentinel; delete it and the same command looks again") from error


def gradient_signs(plan: EvalPlan, device: torch.device) -> dict[OperatingPoint, float]:
    """For each point, the share of pixels in [0, 1] whose gradient has one sign in bf16 (autocast) and in float32.

    Measured at full width on some images of every class. Pixels without gradient in float32 are left out; 1 where
    no pixel is left.
    """
    model = network_of(plan, device).requires_grad_(False)
    source = open_source(prepare_data(plan.config.data), plan.spec.split, device, plan.config.data.threads)
    ((raw, y),) = source.read([budget_rows(source, SIGN_EXAMPLES)])
    x = to_float(raw)
    with full_float32():
        return {point: agreement(network_at(model, point), x, y) for point in plan.points if point.width == 1}


def agreement(logits: Logits, x: Tensor, y: Tensor) -> float:
    """Share of pixels of x (N, C, H, W) whose loss gradient has the same sign under bf16 autocast."""

    def loss(moved: Tensor) -> Tensor:
        return summed_cross_entropy(logits(moved), y)

    exact = input_gradient(loss, x)
    with torch.autocast(x.device.type, torch.bfloat16):
        rough = input_gradient(loss, x)
    there = exact != 0
    if not there.any():
        return 1.0
    return float((exact.sign() == rough.sign())[there].float().mean())
