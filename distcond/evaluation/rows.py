"""Outcomes become counts, and counts become rows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch

from distcond.atomic_io import write_json
from distcond.attacks.attack import Attack
from distcond.data.prepare import resolve_dataset
from distcond.evaluation import outcomes
from distcond.evaluation.networks import network_of
from distcond.evaluation.outcomes import Outcome
from distcond.evaluation.plan import EvalCell, EvalPlan
from distcond.evaluation.probes import report_at
from distcond.models.flops import Cost, cost_at
from distcond.operating_point import OperatingPoint
from distcond.results import history
from distcond.results.cost import COSTS_GLOB
from distcond.results.row import Row
from distcond.results.store import write_part
from distcond.runs.pair_record import checkpoint_of
from distcond.runs.provenance import hardware
from distcond.runs.run_dir import RunDir


class Count(NamedTuple):
    """Correct examples of a run's sweep at one operating point."""

    point: OperatingPoint
    sa_correct: int
    ra_correct: int  # right on the clean image and on every attacked one
    num_examples: int
    ra_loss: float | None  # mean cross-entropy on the attacked images, where all were attacked
    seconds: float
    cost: Cost

    @property
    def lam(self) -> float:
        """Of the network, or of the robust end of a blend."""
        return self.point.lam

    @property
    def width(self) -> float:
        """The multiplier."""
        return self.point.width


@dataclass(frozen=True)
class Provenance:
    """Who counted, and of which start of the run."""

    run_id: str
    checkpoint: str  # "live", "last", "best", "last_raw" or "each"
    attempt: int
    step: int = 0
    world_size: int = 1
    train_world_sizes: tuple[int, ...] = ()  # numbers of ranks that trained it
    git_commit: str = "unknown"
    device: torch.device = torch.device("cpu")


@dataclass(frozen=True)
class AttackCounts:
    """What a cell gave over all blocks, in the order of the examples."""

    correct: np.ndarray  # (n,) bool
    seconds: float
    forward_rows: int


def tally(plan: EvalPlan, cell: EvalCell) -> AttackCounts:
    """Add a cell up from its files.

    Raises:
        ConfigError: an outcome file that cannot be read.
    """
    return added_up([outcomes.read(plan.file(cell, block), plan.members(block)) for block in range(plan.blocks)])


def added_up(found: Iterable[Outcome]) -> AttackCounts:
    """The outcomes of all blocks, in their order."""
    found = list(found)
    correct = np.concatenate([outcome.correct for outcome in found])
    return AttackCounts(correct, sum(o.seconds for o in found), sum(o.forward_rows for o in found))


def worst(tallies: list[AttackCounts]) -> AttackCounts:
    """What survives all of them."""
    correct = np.logical_and.reduce([t.correct for t in tallies])
    return AttackCounts(correct, sum(t.seconds for t in tallies), sum(t.forward_rows for t in tallies))


def sweep_rows(
    plan: EvalPlan,
    counts: Iterable[Count],
    provenance: Provenance,
    warnings: Mapping[OperatingPoint, str] = MappingProxyType({}),
) -> list[Row]:
    """Of a run's sweep, two rows per operating point: SA (attack "none") and RA, with the sentinel's warnings."""
    common, (attack,), rows = _common(plan, provenance), plan.attacks, list[Row]()
    for count in counts:
        here = common | _place(plan, count.point, count.cost) | _noise(plan, "fixed")
        here |= {"num_examples": count.num_examples, "wall_seconds": round(count.seconds, 3)}
        rows.append(Row(**here, num_correct=count.sa_correct))
        attacked = here | _strength(plan, attack) | {"warnings": warnings.get(count.point, "")}
        rows.append(Row(**attacked, num_correct=count.ra_correct))
    return rows


def keep_rows(plan: EvalPlan, workers: int, device: torch.device) -> list[Row]:
    """The rows of a plan that has been carried out, written to the run's results. The same plan replaces its own."""
    costs = _costs(plan)
    rows = list(_rows(plan, _provenance(plan, workers, device), costs))
    name = hashlib.blake2b(_text(plan).encode(), digest_size=4).hexdigest()
    part = write_part(plan.keep_path, f"{plan.spec.split}-{plan.spec.checkpoint}-{name}", rows)
    points = [
        {"lam": point.lam, **blend_of(point), "width": point.width, **cost._asdict()} for point, cost in costs.items()
    ]
    write_json(part.with_name(COSTS_GLOB.replace("*", part.stem)), {"points": points})
    return rows


def blend_of(point: OperatingPoint) -> dict[str, Any]:
    """What records of a run say about a blend; nothing where there is none."""
    return {"blend": point.blend, "blend_t": point.t} if point.blend else {}


def _text(plan: EvalPlan) -> str:
    # What each attack will use depends on which settings were named, not on their values alone.
    strengths = {name: asdict(found) for name, found in plan.strengths.items()}
    return json.dumps([asdict(plan.config.eval), asdict(plan.spec), strengths, plan.fingerprint], sort_keys=True)


def _costs(plan: EvalPlan) -> dict[OperatingPoint, Cost]:
    """What an image costs at each point."""
    model, size = network_of(plan), resolve_dataset(plan.config.data).image_size
    return {point: cost_at(model, point, model.width_index(point.width), size) for point in plan.points}


def _rows(plan: EvalPlan, provenance: Provenance, costs: Mapping[OperatingPoint, Cost]) -> Iterator[Row]:
    common = _common(plan, provenance)
    for point in plan.points:
        for noise in plan.spec.noise:
            here = common | _place(plan, point, costs[point]) | _noise(plan, noise)
            yield from _rows_at(plan, here, point, noise)


def _rows_at(plan: EvalPlan, common: dict[str, Any], point: OperatingPoint, noise: str) -> Iterator[Row]:
    clean, warned = tally(plan, plan.clean(point, noise)), report_at(plan, point).names
    # SA stands beside every RA, and series are told apart by their draws.
    for draws in sorted({plan.draws(attack, noise) for attack in plan.attacks or (None,)}):
        yield Row(**common, eot_draws=draws, **_counts(clean))
    for attack in plan.attacks:
        attacked = common | {"eot_draws": plan.draws(attack, noise), "warnings": warned} | _strength(plan, attack)
        for threat, found in _threats(plan, attack, point, noise):
            yield Row(**attacked, **threat, **_counts(found))


def _threats(
    plan: EvalPlan, attack: Attack, point: OperatingPoint, noise: str
) -> Iterator[tuple[dict[str, Any], AttackCounts]]:
    tallies = {cell.source: tally(plan, cell) for cell in plan.attacked(attack, noise) if cell.point == point}
    wanted = plan.spec.threat
    if "adaptive" in wanted:
        yield {"threat": "adaptive"}, tallies[point]
    if "transfer" in wanted:
        yield from (({"threat": "transfer", "attack_lam": s.lam}, found) for s, found in tallies.items() if s != point)
    if "worst" in wanted:
        yield {"threat": "worst", "attack_lam": -1.0}, worst(list(tallies.values()))


def _counts(found: AttackCounts) -> dict[str, Any]:
    counted = {"num_correct": int(found.correct.sum()), "num_examples": len(found.correct)}
    return counted | {"wall_seconds": round(found.seconds, 3)}


def _place(plan: EvalPlan, point: OperatingPoint, cost: Cost) -> dict[str, Any]:
    return {"lam": point.lam, "blend": point.blend, "blend_t": point.t, "width": point.width, "density": cost.density}


def _strength(plan: EvalPlan, attack: Attack) -> dict[str, Any]:
    used = plan.strengths[attack.name]
    return {"attack": attack.name, **asdict(used), "random_start": int(used.random_start)}


def _noise(plan: EvalPlan, noise: str) -> dict[str, Any]:
    if not plan.noisy:
        return {"noise_mode": "none"}
    return {"noise_mode": noise, "noise_seed": plan.config.eval.noise_seed}


def _provenance(plan: EvalPlan, workers: int, device: torch.device) -> Provenance:
    run = RunDir(plan.run_path)
    starts = run.starts()
    return Provenance(
        run_id=run.name,
        # Of a pair, that of the two runs: its own has no other.
        checkpoint=checkpoint_of(run) if plan.config.method.name == "pair" else plan.spec.checkpoint,
        attempt=max(len(starts) - 1, 0),
        world_size=workers,
        train_world_sizes=tuple(history.world_sizes(plan.run_path)),
        git_commit=starts[-1]["git_commit"] if starts else "unknown",
        device=device,
    )


def _common(plan: EvalPlan, provenance: Provenance) -> dict[str, Any]:
    config = plan.config
    return {
        "run_id": provenance.run_id,
        "attempt": provenance.attempt,
        "epoch": plan.epoch,
        "step": provenance.step,
        "split": plan.spec.split,
        "checkpoint": provenance.checkpoint,
        "block_size": plan.block_size,
        "precision": plan.precision,
        "images": plan.images,
        "weights": plan.weights,
        "method": config.method.name,
        "model": config.model.name,
        "dataset": config.data.name,
        "seed": config.seed,
        "world_size": provenance.world_size,
        "train_world_sizes": ",".join(map(str, provenance.train_world_sizes)),
        "torch_version": torch.__version__,
        "git_commit": provenance.git_commit,
        "hardware": hardware(provenance.device),
    }
