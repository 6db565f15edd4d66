"""Sweep a checkpoint again, with any attack: rows beside the run's own."""

from __future__ import annotations

import hashlib
from dataclasses import asdict

from distcond.config.schema import Config
from distcond.data.open import open_source, prepare
from distcond.engine.evaluate import Blocks, sweep
from distcond.engine.grid import lam_grid
from distcond.engine.restore import epoch_at, load
from distcond.engine.rows import Origin, rows_of
from distcond.engine.run_dir import RunDir
from distcond.engine.world import World
from distcond.registry import lookup
from distcond.results.row import Row
from distcond.results.store import write_part


def resweep(config: Config, world: World, run: RunDir, which: str, split: str) -> list[Row]:
    """Count the `which` ("best", "last") checkpoint on `split` ("test", "val") by `config.eval`, and keep the rows.

    Raises:
        ConfigError: no such checkpoint, or the data cannot be opened.
    """
    data = config.data
    model = load(run.path, which, world.device)
    prepared = prepare(lookup("data", data.name), data.root, data.cache_dir, data.loader)
    source = open_source(prepared, split, world.device, data.threads)
    examples = config.eval.test_examples if split == "test" else config.eval.val_examples
    counts = sweep(
        model, Blocks(source, examples, config.eval.batch_size), world, lam_grid(config), config.eval.attack,
        seed=config.seed, noise_seed=config.eval.noise_seed,
    )  # fmt: skip
    starts = run.starts()
    origin = Origin(
        run.name, config, world, len(starts) - 1, epoch_at(run, which), 0, split, which, model.noise_size > 0,
        starts[-1]["git_commit"],
    )  # fmt: skip
    rows = rows_of(list(counts), config.eval.attack, origin)
    write_part(run.path, f"{split}-{which}-{_slug(config)}", rows)
    return rows


def _slug(config: Config) -> str:
    """A short name for the evaluation's settings: the same settings replace their rows, others stand beside them."""
    return hashlib.blake2b(repr(asdict(config.eval)).encode(), digest_size=4).hexdigest()
