"""The sweeps of a run: on validation while it trains, on test for the best and the last checkpoint."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from distcond.config.schema import AttackConfig
from distcond.engine.evaluate import Blocks, Count, sweep
from distcond.engine.grid import operating_points
from distcond.engine.masking import Place, looked_at, names, sweep_work, training_work
from distcond.engine.rows import Origin, rows_of
from distcond.gradient_masking.diagnose import Diagnosis
from distcond.models.conditional import ConditionalModel
from distcond.operating_point import OperatingPoint
from distcond.results.store import write_part
from distcond.runs.checkpoint import CheckpointStep
from distcond.runs.load_run import load_from
from distcond.training.eta import EtaEstimator
from distcond.training.progress import ProgressWriter, SweepProgress
from distcond.training.trainer import Trainer


def validate(job: Trainer, epoch: int, progress: ProgressWriter) -> tuple[float, dict[str, object]]:
    """Sweep the validation split after `epoch` epochs.

    Returns:
        The score that chooses the best checkpoint, the mean of SA and RA over the grid, and what the history keeps:
        the curve, and "warnings", the sentinel's at the most robust point, where it looked.
    """
    config = job.config
    attack = replace(config.eval.attack, num_steps=config.eval.val_steps, restarts=1)
    blocks = Blocks(job.sources["val"], config.eval.val_examples, config.eval.batch_size)
    meter = SweepProgress(progress, "validate", job.position.done, _rows(job, blocks))
    model = job.evaluated_model()
    counts, reports = swept(job, model, blocks, attack, meter), _probe(job, model, blocks)
    if job.world.first:
        rows = rows_of(counts, attack, origin(job, blocks, epoch, "val", "live"), names(reports))
        write_part(job.run.path, f"val-epoch-{epoch:04d}", rows)
    curve = [point(count) for count in counts]
    score = sum(at["sa"] + at["ra"] for at in curve) / (2 * len(curve))
    kept: dict[str, object] = {"val": curve, "val_score": score}
    for report in reports.values():
        kept["warnings"] = report.facts
    return score, kept


def _probe(job: Trainer, model: ConditionalModel, blocks: Blocks) -> dict[Place, Diagnosis]:
    """The sentinel at the most robust point, beside a validation sweep."""
    settings = job.config.eval
    if settings.sentinel != "every":
        return {}
    sweep = sweep_work(replace(settings.attack, num_steps=settings.val_steps, restarts=1), _rows(job, blocks))
    return looked_at(job, model, blocks, settings.attack, [_most_robust(job)], training_work(job) + sweep)


def point(count: Count) -> dict[str, Any]:
    """One operating point of the history: accuracies in [0, 1]."""
    sa, ra = count.sa_correct / count.num_examples, count.ra_correct / count.num_examples
    at = {"lam": count.point.lam, "width": count.width, "sa": sa, "ra": ra, "ra_loss": count.ra_loss}
    return at | blend_of(count.point)


def blend_of(point: OperatingPoint) -> dict[str, Any]:
    """What records of a run say about a blend; nothing where there is none."""
    return {"blend": point.blend, "blend_t": point.t} if point.blend else {}


def _most_robust(job: Trainer) -> OperatingPoint:
    return max(operating_points(job.config), key=lambda point: point.position)


def pace_of(job: Trainer) -> EtaEstimator:
    """What the sweeps of a run will cost this rank, for an estimate of the time that is left."""
    settings = job.config.eval
    val = Blocks(job.sources["val"], settings.val_examples, settings.batch_size)
    return EtaEstimator(
        epochs=sum(stage.epochs for stage in job.stages),
        steps=job.train.steps,
        every=settings.every,
        validation=sweep_work(replace(settings.attack, num_steps=settings.val_steps, restarts=1), _rows(job, val)),
        test=final_work(job),
    )


def final_work(job: Trainer) -> float:
    """What the sweeps at the end will cost this rank: one more where best and last are two networks.

    While no validation has been, between the two; after one, as if the last were to do as it did.
    """
    settings = job.config.eval
    test = Blocks(job.sources["test"], settings.test_examples, settings.batch_size)
    networks = 1.5 if job.best is None else 1.0 + (job.best[0] < job.validated)
    rows = (networks + (job.averaged is not None)) * _rows(job, test)
    rows += _rows(job, train_blocks(job)) if settings.train_examples else 0
    return sweep_work(settings.attack, rows)


def train_blocks(job: Trainer) -> Blocks:
    """Of the images that are trained on, those behind the robust generalisation gap."""
    budgets = [count for count in (job.config.train_examples, job.config.eval.train_examples) if count]
    return Blocks(job.sources["train"], min(budgets, default=0), job.config.eval.batch_size)


def final_counts(job: Trainer, progress: ProgressWriter) -> dict[str, list[Count]]:
    """Sweep the checkpoints read back from disk: "last" and "best" on test, "train" = last on training images.

    Where weights are averaged these are averages, and "last_raw" shows what the same run gives without. The training
    images are those without augmentation; they are what the robust generalisation gap is measured on.
    """
    settings, by_network = job.config.eval, dict[tuple[int, bool], tuple[list[Count], dict[Place, Diagnosis]]]()
    test = Blocks(job.sources["test"], settings.test_examples, settings.batch_size)
    train = train_blocks(job)
    wanted = ("last", "best", "last_raw") if job.averaged is not None else ("last", "best")
    # Not as each rank finds them: a network file system may show an older list to some.
    best = job.best[0] if job.best is not None else job.position.done
    epochs = {"last": job.position.done, "best": best, "last_raw": job.position.done}
    networks = {which: (epochs[which], which == "last_raw") for which in wanted}
    rows = len(set(networks.values())) * _rows(job, test) + bool(settings.train_examples) * _rows(job, train)
    progress.pace.test = sweep_work(settings.attack, rows)
    meter = SweepProgress(progress, "test", job.position.done, rows)
    for which, network in networks.items():
        if network not in by_network:
            by_network[network] = _tested(job, _read_back(job, network[0], which), test, meter)
        counts, reports = by_network[network]
        _write(job, f"test-{which}", counts, origin(job, test, network[0], "test", which), reports)
    found = {which: by_network[network][0] for which, network in networks.items()}
    if settings.train_examples:
        found["train"] = swept(job, _read_back(job, networks["last"][0], "last"), train, settings.attack, meter)
        _write(job, "train-last", found["train"], origin(job, train, networks["last"][0], "train", "last"), {})
    return found


def _read_back(job: Trainer, epoch: int, which: str) -> ConditionalModel:
    return load_from(job.run, job.run.checkpoints / CheckpointStep(epoch).name, which, job.world.device)


def _tested(
    job: Trainer, model: ConditionalModel, blocks: Blocks, meter: SweepProgress
) -> tuple[list[Count], dict[Place, Diagnosis]]:
    """Counts at every operating point, and what the sentinel says there at full width."""
    attack, grid = job.config.eval.attack, operating_points(job.config)
    counts = swept(job, model, blocks, attack, meter)
    if job.config.eval.sentinel == "off":
        return counts, {}
    return counts, looked_at(job, model, blocks, attack, grid, sweep_work(attack, _rows(job, blocks)))


def _rows(job: Trainer, blocks: Blocks) -> int:
    """How many rows one sweep brings to this rank."""
    points = len(operating_points(job.config)) * len(job.model.width_mults)
    return points * sum(len(part) for _, part in blocks.of(job.world))


def _write(job: Trainer, name: str, counts: list[Count], where: Origin, reports: dict[Place, Diagnosis]) -> None:
    if job.world.first:
        write_part(job.run.path, name, rows_of(counts, job.config.eval.attack, where, names(reports)))


def swept(
    job: Trainer, model: ConditionalModel, blocks: Blocks, attack: AttackConfig, meter: SweepProgress
) -> list[Count]:
    """Counts of `model` at every operating point of the run.

    Raises:
        Stop: the run was asked to stop before the last of them; what was counted is lost.
    """
    seed, noise_seed, grid = job.config.seed, job.config.eval.noise_seed, operating_points(job.config)
    counts, places = list[Count](), len(grid) * len(model.width_mults)
    for count in sweep(model, blocks, job.world, grid, attack, seed=seed, noise_seed=noise_seed, seen=meter):
        counts.append(count)
        if len(counts) < places:
            job.points.between()
    return counts


def origin(job: Trainer, blocks: Blocks, epoch: int, split: str, which: str) -> Origin:
    """What the rows of one sweep over `blocks` say about where they come from. The first rank alone writes them."""
    images = blocks.images if job.world.first else ""
    step, noisy = epoch * job.train.steps, job.model.noise_size > 0
    commit = job.run.starts()[-1]["git_commit"]
    here = (job.run.name, job.config, job.world, job.attempt, epoch, step, split, which, noisy, commit)
    return Origin(*here, images, job.world_sizes)
