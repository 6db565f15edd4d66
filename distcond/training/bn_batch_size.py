"""Checks that batch normalisation sees enough images per rank, and per path where a network has two.

Statistics of fewer than two rows leave the running ones alone (`layers.statistics.track`): such a run would train, and
then be evaluated with statistics that never moved. A path that no row takes, as clean ones at a fixed lam of 1, is
trained and evaluated by nobody and stays legal.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import nn

from distcond.config.schema import Config
from distcond.errors import ConfigError
from distcond.layers.dual_norm import DualBatchNorm2d
from distcond.methods.method import Method
from distcond.registry import lookup
from distcond.runs.build import build_model
from distcond.seeding import generator

#: Rows whose variance is more than a guess.
MIN_ROWS = 2

#: Values of lam that are drawn to estimate how many rows of a batch are of a kind.
DRAWS = 1 << 16

#: A mean of eight draws that is so many times what is needed leaves no doubt.
FAR = 4


class RowGroup(NamedTuple):
    """Rows of a global batch that share their statistics: the expected number, and the most it may be by the draws."""

    name: str  # "clean", "adversarial", or "" where a network does not tell them apart
    rows: float
    at_most: float


def check_bn_batch_size(config: Config, workers: int) -> None:
    """Refuse a run in which batch normalisation sees, per rank and on average, more than 0 and fewer than 2 rows.

    Args:
        config: the run.
        workers: over how many ranks a batch is spread.

    Raises:
        ConfigError: it does; the message has the numbers and what would be valid.
    """
    needed = MIN_ROWS * (1 if config.shared_statistics else workers)
    everything = all_rows(config.batch_size)
    if all(kind.rows >= FAR * needed for kind in (everything, *row_groups(config, config.batch_size, 0))):
        return  # as nearly always: thousands of draws would be a second of every start
    kinds = [everything, *row_groups(config, config.batch_size)]
    if not any(_few(kind, needed) for kind in kinds):
        return  # before a network is built to see which of them it tells apart
    modules = list(build_model(config).modules())
    if not any(isinstance(module, nn.BatchNorm2d) for module in modules):
        return
    dual = any(isinstance(module, DualBatchNorm2d) for module in modules)
    few = [kind for kind in (kinds[1:] if dual else kinds[:1]) if _few(kind, needed)]
    if few:
        raise ConfigError(_refusal(config, workers, min(few, key=lambda kind: kind.rows)))


def all_rows(batch_size: int) -> RowGroup:
    """All rows, for a network with one set of statistics."""
    return RowGroup("", batch_size, batch_size)


def row_groups(config: Config, batch_size: int, draws: int = DRAWS) -> list[RowGroup]:
    """The rows that take the clean and those that take the adversarial path, by at least 8 drawn batches."""
    method: Method = lookup("method", config.method.name)
    sampler, source = lookup("sampler", config.sampler.name), generator("rows per rank")
    threshold = method.routing(config.method).threshold
    drawn = [sampler.draw(config.sampler, batch_size, source) for _ in range(max(8, draws // batch_size))]
    adversarial = (torch.stack(drawn) > threshold).sum(1).double()
    doubt = 3 * float(adversarial.std()) / math.sqrt(len(drawn))
    counts = {"clean": batch_size - float(adversarial.mean()), "adversarial": float(adversarial.mean())}
    return [RowGroup(name, rows, rows + doubt) for name, rows in counts.items()]


def _few(kind: RowGroup, needed: int) -> bool:
    return kind.rows > 0 and kind.at_most < needed


def _refusal(config: Config, workers: int, kind: RowGroup) -> str:
    ranks = 1 if config.shared_statistics else workers
    on = f"batch_size={config.batch_size} on {workers} worker{'s' if workers > 1 else ''}"
    each = "over all of them" if config.shared_statistics else "per worker"
    seen = f"{kind.rows / ranks:.3g} {kind.name} images {each} and step".replace("  ", " ")
    valid = [f"batch_size={_enough(config, kind, MIN_ROWS * ranks)} or more"]
    if ranks > 1 and kind.at_most >= MIN_ROWS:
        most = math.floor(kind.at_most / MIN_ROWS)
        valid += [f"{most} workers or fewer" if most > 1 else "1 worker", "shared_statistics=true"]
    return f"{on}: batch normalisation sees {seen} and needs {MIN_ROWS}; valid: {', '.join(valid)}"


def _enough(config: Config, kind: RowGroup, needed: int) -> int:
    """A batch that holds enough rows of a kind: about the smallest."""
    batch, found = config.batch_size, kind
    while found.at_most < needed:
        batch = math.ceil(batch * needed / found.at_most)
        kinds = [all_rows(batch), *row_groups(config, batch)]
        found = next(other for other in kinds if other.name == kind.name)
    return batch
