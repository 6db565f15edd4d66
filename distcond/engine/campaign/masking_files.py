"""The masking sentinel in an evaluation: one report per operating point, in a file beside the outcomes.

It looks at some examples of every class under the attack of `eval.attack`, at frozen noise whatever the noise mode
of the evaluation, since gradients at fresh draws differ by design.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from distcond.atomic_io import read_json, write_json
from distcond.data.loader import to_float
from distcond.data.sources import Source
from distcond.data.splits import stratified_order
from distcond.engine.campaign.plan import Plan
from distcond.errors import ConfigError
from distcond.gradient_masking.checks import Finding
from distcond.gradient_masking.diagnose import Diagnosis, diagnose
from distcond.gradient_masking.evidence import FULL
from distcond.models.conditional import ConditionalModel
from distcond.models.dial import network_at
from distcond.operating_point import PointLike, as_point
from distcond.results.labels import trains_on_attacks
from distcond.seeding import key

#: Examples that are looked at: 288 forward passes of each at 20 attack steps.
EXAMPLES = 128


def look_at_points(plan: Plan, model: ConditionalModel, source: Source) -> None:
    """Look at every operating point that has no report yet; `model` is in eval mode and in float32."""
    missing = {place: file for place, file in plan.sentinel_files().items() if not file.exists()}
    if not missing:
        return
    ((raw, y),) = source.read([_looked_at(plan, source)])
    x, seed = to_float(raw).contiguous(), key(plan.config.seed, "sentinel")
    for (point, width), file in missing.items():
        network = network_at(model, point, model.width_mults[width], plan.config.eval.noise_seed)
        learnt = plan.config.attack if trains_on_attacks(plan.config) and point.robust else None
        report = diagnose(network, x, y, plan.config.eval.attack, seed, FULL, learnt)
        write_json(file, [finding._asdict() for finding in report.findings])


def _looked_at(plan: Plan, source: Source) -> np.ndarray:
    """Examples of the plan, of every class."""
    order = stratified_order(source.labels) if plan.rows is None else plan.rows
    return order[: min(EXAMPLES, plan.examples)]


def report_at(plan: Plan, place: PointLike, width: int) -> Diagnosis:
    """The report on an operating point; an empty one where the sentinel is off.

    Raises:
        ConfigError: its file cannot be read.
    """
    file = plan.sentinel_files().get((as_point(place), width))
    return _read(file) if file is not None else Diagnosis(())


def explained(plan: Plan) -> str:
    """What every report warns of, with what it rests on and what to do: a line each; "" without warnings."""
    lines: list[str] = []
    for point, width in plan.sentinel_files():
        where = str(point) + (f" width {plan.width_mults[width]:g}" if len(plan.width_mults) > 1 else "")
        for finding in report_at(plan, point, width).warned:
            lines.append(f"{finding.name} at {where} ({finding.fact}): {finding.meaning}")
    return "\n".join(lines)


def _read(file: Path) -> Diagnosis:
    try:
        return Diagnosis(tuple(Finding(**values) for values in read_json(file)))
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{file} is no report of the sentinel; delete it and the same command looks again") from error
