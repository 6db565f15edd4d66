"""The sweeps of a run: on validation while it trains, on test for the best and the last checkpoint."""

from __future__ import annotations

from dataclasses import replace

from distcond.engine.evaluate import Blocks, sweep
from distcond.engine.job import Job
from distcond.engine.restore import epoch_at, load
from distcond.engine.rows import Origin, rows_of
from distcond.methods.method import Method
from distcond.registry import lookup
from distcond.results.row import Row
from distcond.results.store import write_part


def validate(job: Job, epoch: int) -> tuple[float, dict[str, object]]:
    """Sweep the validation split after `epoch` epochs.

    Returns:
        The score that chooses the best checkpoint, the mean of SA and RA over the grid, and the curve for the history.
    """
    config = job.config
    attack = replace(config.eval.attack, num_steps=config.eval.val_steps, restarts=1)
    blocks = Blocks(job.sources["val"], config.eval.val_examples, config.eval.batch_size)
    model = job.evaluated_model()
    counts = list(
        sweep(model, blocks, job.world, lam_grid(job), attack, seed=config.seed, noise_seed=config.eval.noise_seed)
    )
    if job.world.first:
        write_part(job.run.path, f"val-epoch-{epoch:04d}", rows_of(counts, attack, origin(job, epoch, "val", "live")))
    curve = [
        {"lam": count.lam, "sa": count.sa_correct / count.num_examples, "ra": count.ra_correct / count.num_examples}
        for count in counts
    ]
    score = sum(point["sa"] + point["ra"] for point in curve) / (2 * len(curve))
    return score, {"val": curve, "val_score": score}


def test_rows(job: Job) -> list[Row]:
    """Sweep the test split with the best and the last checkpoint, read back from disk; one part of rows each."""
    config, rows = job.config, list[Row]()
    blocks = Blocks(job.sources["test"], config.eval.test_examples, config.eval.batch_size)
    for which in ("last", "best"):
        model, epoch = load(job.run.path, which, job.world.device), epoch_at(job.run, which)
        counts = sweep(
            model, blocks, job.world, lam_grid(job), config.eval.attack,
            seed=config.seed, noise_seed=config.eval.noise_seed,
        )  # fmt: skip
        found = rows_of(list(counts), config.eval.attack, origin(job, epoch, "test", which))
        if job.world.first:
            write_part(job.run.path, f"test-{which}", found)
        rows += found
    return rows


def lam_grid(job: Job) -> tuple[float, ...]:
    """The operating points the run's method is swept at."""
    method: Method = lookup("method", job.config.method.name)
    return method.lam_grid(job.config)


def origin(job: Job, epoch: int, split: str, which: str) -> Origin:
    """What the rows of one sweep say about where they come from."""
    step, noisy = epoch * job.train.steps, job.model.noise_size > 0
    commit = job.run.starts()[-1]["git_commit"]
    return Origin(job.run.name, job.config, job.world, job.attempt, epoch, step, split, which, noisy, commit)
