"""Evaluation within a run: on validation while it trains, on test for the best and the last checkpoint."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

from distcond.config.schema import AttackConfig, Config
from distcond.data.prepare import prepare_data
from distcond.data.splits import split_digest
from distcond.evaluation.layout import Blocks
from distcond.evaluation.make_plan import sweep_plan
from distcond.evaluation.plan import EvalPlan
from distcond.evaluation.probes import probe
from distcond.evaluation.rows import Count, Provenance, blend_of, sweep_rows
from distcond.evaluation.sweep import sweep
from distcond.gradient_masking.diagnose import Diagnosis
from distcond.methods.method import Method
from distcond.models.conditional import ConditionalModel
from distcond.models.weights_digest import weights_digest
from distcond.operating_point import OperatingPoint
from distcond.registry import lookup
from distcond.results.row import Row
from distcond.results.store import write_part
from distcond.runs.checkpoint import CheckpointStep
from distcond.runs.grid import operating_points
from distcond.runs.load_run import load_from
from distcond.training import selection
from distcond.training.eta import EtaEstimator
from distcond.training.progress import ProgressWriter, SweepProgress
from distcond.training.trainer import Trainer

#: Gradient masking reports by operating point.
Reports = dict[OperatingPoint, Diagnosis]


def validate(trainer: Trainer, epoch: int, progress: ProgressWriter) -> dict[str, Any]:
    """Evaluate the validation split after `epoch` epochs.

    Returns:
        Entries for the history: "val", the curve; "val_score", which selects the best checkpoint by the rule
        `eval.select`; and "warnings" of the gradient masking check at the most robust point, if it ran.
    """
    model, method = trainer.evaluated_model(), lookup("method", trainer.config.method.name)
    assert isinstance(method, Method)
    plan = _plan(trainer, model, "val", epoch, _val_attack(trainer.config))
    plan = replace(plan, precision=trainer.config.precision.validation)
    meter = SweepProgress(progress, "validate", trainer.position.done, _rows(trainer, plan.layout))
    counts = run_sweep(trainer, plan, model, meter, losses=method.reads_ra_loss)
    validated = Evaluated(plan, counts, _check_masking(trainer, plan, model))
    _write(trainer, f"val-epoch-{epoch:04d}", validated, "live")
    curve = [point(count) for count in counts]
    entries: dict[str, Any] = {"val": curve, "val_score": selection.score(trainer.config.eval.select, curve)}
    for report in validated.reports.values():
        entries["warnings"] = report.facts
    return entries


def _plan(
    trainer: Trainer, model: ConditionalModel, split: str, epoch: int, attack: AttackConfig | None = None
) -> EvalPlan:
    """The plan for the evaluation of a split."""
    source, budget = trainer.sources[split], _budget(trainer.config, split)
    plan = sweep_plan(
        trainer.config, model, source, attack=attack, budget=budget, run_path=trainer.run.path, split=split, epoch=epoch
    )
    return replace(plan, split_images=split_digest(source)) if trainer.world.first else plan


def _budget(config: Config, split: str) -> int:
    """Number of examples of a split to evaluate; 0 = all. Of "train", among the images that are trained on."""
    if split == "train":
        return min((count for count in (config.train_examples, config.eval.train_examples) if count), default=0)
    return config.eval.val_examples if split == "val" else config.eval.test_examples


def _val_attack(config: Config) -> AttackConfig:
    return replace(config.eval.attack, num_steps=config.eval.val_steps, restarts=1)


def _check_masking(trainer: Trainer, plan: EvalPlan, model: ConditionalModel) -> Reports:
    """The gradient masking check at the most robust point, next to a validation."""
    settings = trainer.config.eval
    if settings.sentinel != "every" or not trainer.world.first:
        return {}
    most_robust = max((point for point in plan.points if point.width == 1), key=lambda point: point.position)
    trained = sum(trainer.accumulator.spent) if trainer.accumulator is not None else 0.0  # 0 before the first step
    work = trained + sweep_work(_val_attack(trainer.config), _rows(trainer, plan.layout))
    return probe(plan, model, trainer.sources["val"], settings.attack, [most_robust], work)


def point(count: Count) -> dict[str, Any]:
    """An operating point for the history: accuracies in [0, 1], and the loss under attack if the method reads it."""
    sa, ra = count.sa_correct / count.num_examples, count.ra_correct / count.num_examples
    loss = {} if count.ra_loss is None else {"ra_loss": count.ra_loss}
    return {"lam": count.lam, "width": count.width, "sa": sa, "ra": ra, **loss, **blend_of(count.point)}


def build_eta(trainer: Trainer) -> EtaEstimator:
    """The ETA estimator of a run, with the work of its evaluations on this rank."""
    return EtaEstimator(
        epochs=sum(stage.epochs for stage in trainer.stages),
        steps=trainer.train.steps,
        every=trainer.config.eval.every,
        validation=sweep_work(_val_attack(trainer.config), _rows(trainer, _blocks(trainer, "val"))),
        test=final_work(trainer),
    )


def sweep_work(attack: AttackConfig, rows: float) -> float:
    """Upper bound of the forward-equivalents for `rows` examples on this rank, clean and attacked."""
    return rows * (1.0 + attack.restarts * (2 * attack.num_steps + 1))


def final_work(trainer: Trainer) -> float:
    """Work of the final evaluation on this rank. Twice, if best and last are different networks.

    Before the first validation, assumes 1.5; later, that the last checkpoint is the best if the latest one was.
    """
    settings = trainer.config.eval
    networks = 1.5 if trainer.best is None else float(len(trainer.best_epochs | {trainer.validated}))
    rows = (networks + (trainer.averaged is not None)) * _rows(trainer, _blocks(trainer, "test"))
    rows += _rows(trainer, _blocks(trainer, "train")) if settings.train_examples else 0
    return sweep_work(settings.attack, rows)


def _blocks(trainer: Trainer, split: str) -> Blocks:
    return Blocks.of(trainer.sources[split], _budget(trainer.config, split), trainer.config.eval.batch_size)


class Evaluated(NamedTuple):
    """An evaluated network: the plan, the counts, and the gradient masking reports."""

    plan: EvalPlan
    counts: list[Count]
    reports: Reports


def final_counts(trainer: Trainer, progress: ProgressWriter) -> dict[str, list[Count]]:
    """Evaluate checkpoints read back from disk: "last" and "best" on test, and "train", last on training images.

    With `eval.select=each` also "each": SA and RA of every operating point at its own best checkpoints. If weights are
    averaged, these are averages, and "last_raw" is the last checkpoint without averaging. The training images, for the
    robust generalisation gap, are not augmented.
    """
    settings, by_network = trainer.config.eval, dict[tuple[int, bool], Evaluated]()
    names = ("last", "best", "last_raw") if trainer.averaged is not None else ("last", "best")
    # From the trainer, not from the directory: a network file system may show some ranks an older listing.
    best = trainer.best[0] if trainer.best is not None else trainer.position.done
    epochs = {"last": trainer.position.done, "best": best, "last_raw": trainer.position.done}
    networks = {which: (epochs[which], which == "last_raw") for which in names}
    others = [(epoch, False) for epoch in sorted(trainer.best_epochs)]
    rows = len({*networks.values(), *others}) * _rows(trainer, _blocks(trainer, "test"))
    rows += bool(settings.train_examples) * _rows(trainer, _blocks(trainer, "train"))
    progress.pace.test = sweep_work(settings.attack, rows)
    meter = SweepProgress(progress, "test", trainer.position.done, rows)
    for which, network in networks.items():
        if network not in by_network:
            by_network[network] = _evaluate_checkpoint(trainer, "test", network[0], which, meter)
        _write(trainer, f"test-{which}", by_network[network], which)
    counts = {which: by_network[network].counts for which, network in networks.items()}
    for network in others:
        if network not in by_network:
            by_network[network] = _evaluate_checkpoint(trainer, "test", network[0], "each", meter)
    if trainer.winners:
        counts["each"] = _count_winners(trainer, {epoch: by_network[epoch, False] for epoch, _ in others})
    if settings.train_examples:
        trained = _evaluate_checkpoint(trainer, "train", networks["last"][0], "last", meter)
        _write(trainer, "train-last", trained, "last")
        counts["train"] = trained.counts
    return counts


def _evaluate_checkpoint(trainer: Trainer, split: str, epoch: int, which: str, meter: SweepProgress) -> Evaluated:
    """Evaluate a checkpoint at every operating point; on test with outcomes per example and gradient masking check."""
    model = load_from(trainer.run, trainer.run.checkpoints / CheckpointStep(epoch).name, which, trainer.world.device)
    data = prepare_data(trainer.config.data).fingerprint
    plan = replace(_plan(trainer, model, split, epoch), weights=weights_digest(model), fingerprint=data)
    counts = run_sweep(trainer, plan, model, meter, keep=split == "test")
    if split == "train" or trainer.config.eval.sentinel == "off" or not trainer.world.first:
        return Evaluated(plan, counts, {})
    attack, full_width = trainer.config.eval.attack, [point for point in plan.points if point.width == 1]
    work = sweep_work(attack, _rows(trainer, plan.layout))
    return Evaluated(plan, counts, probe(plan, model, trainer.sources[split], attack, full_width, work))


def _count_winners(trainer: Trainer, by_epoch: dict[int, Evaluated]) -> list[Count]:
    """SA and RA of every operating point at its own best checkpoints, whose rows are written as "test-each".

    Args:
        trainer: the run, with winners.
        by_epoch: the networks of the winners on test.
    """
    counts, rows = list[Count](), list[Row]()
    for number in range(len(trainer.winners) // len(selection.METRICS)):
        sa, ra = (trainer.winners[f"{metric}/{number}"].epoch for metric in selection.METRICS)
        counts.append(by_epoch[ra].counts[number]._replace(sa_correct=by_epoch[sa].counts[number].sa_correct))
        if trainer.world.first:
            rows += [row for row in _point_rows(trainer, by_epoch[sa], number) if row.attack == "none"]
            rows += [row for row in _point_rows(trainer, by_epoch[ra], number) if row.attack != "none"]
    if trainer.world.first:
        write_part(trainer.run.path, "test-each", rows)
    return counts


def _point_rows(trainer: Trainer, evaluated: Evaluated, number: int) -> list[Row]:
    warnings = {at: report.names for at, report in evaluated.reports.items()}
    by_whom = provenance(trainer, evaluated.plan.epoch, "each")
    return sweep_rows(evaluated.plan, evaluated.counts[number : number + 1], by_whom, warnings)


def _rows(trainer: Trainer, blocks: Blocks) -> int:
    """Number of examples of one sweep on this rank, summed over operating points."""
    points = len(operating_points(trainer.config)) * len(trainer.model.width_mults)
    return points * sum(len(blocks.members(number)) for number in blocks.of_rank(trainer.world))


def _write(trainer: Trainer, name: str, evaluated: Evaluated, which: str) -> None:
    if trainer.world.first:
        warnings = {at: report.names for at, report in evaluated.reports.items()}
        rows = sweep_rows(evaluated.plan, evaluated.counts, provenance(trainer, evaluated.plan.epoch, which), warnings)
        write_part(trainer.run.path, name, rows)


def run_sweep(
    trainer: Trainer,
    plan: EvalPlan,
    model: ConditionalModel,
    meter: SweepProgress,
    losses: bool = False,
    keep: bool = False,
) -> list[Count]:
    """Count at every operating point of the plan, polling for stop requests in between.

    Args:
        trainer: the run on this rank.
        plan: of the sweep.
        model: the network.
        meter: called after each block.
        losses: whether to compute the loss under attack.
        keep: whether to store outcomes per example.

    Raises:
        StopRequested: the run was asked to stop; counts without stored outcomes are lost.
    """
    counts, source = list[Count](), trainer.sources[plan.spec.split]
    for count in sweep(plan, model, source, trainer.world, seen=meter, losses=losses, keep=keep):
        counts.append(count)
        if len(counts) < len(plan.points):
            trainer.checkpoint_policy.poll()
    return counts


def provenance(trainer: Trainer, epoch: int, which: str) -> Provenance:
    """The provenance of the rows of one sweep, which rank 0 writes."""
    return Provenance(
        run_id=trainer.run.name,
        checkpoint=which,
        attempt=trainer.attempt,
        step=epoch * trainer.train.steps,
        world_size=trainer.world.size,
        train_world_sizes=trainer.world_sizes,
        git_commit=trainer.run.starts()[-1]["git_commit"],
        device=trainer.world.device,
    )
