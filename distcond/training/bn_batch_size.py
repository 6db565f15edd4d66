"""Checks that batch normalisation sees enough images per rank, and per path of a network with two.

Statistics of fewer than two rows do not update the running ones (`layers.batch_norm_statistics`). Such a run would
train, and then be evaluated with statistics that never moved. A path that no row takes, such as the clean one at a
fixed lam of 1, is neither trained nor evaluated, and is allowed.
"""

from __future__ import annotations

import math
from dataclasses import replace
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

#: Fewest rows of which a variance means anything.
MIN_ROWS = 2

#: Values of lam to draw for an estimate of the rows per path.
DRAWS = 1 << 16

#: A mean over eight batches that exceeds the need by this factor makes more draws unnecessary.
SAFE_FACTOR = 4


class RowGroup(NamedTuple):
    """Rows of a global batch that share their statistics."""

    name: str  # "clean", "adversarial", or "" in a network that does not separate them
    rows: float  # expected number
    at_most: float  # upper bound of the estimate


def check_bn_batch_size(config: Config, workers: int) -> None:
    """Refuse a run in which batch normalisation sees, per rank and on average, more than 0 and fewer than 2 rows.

    Args:
        config: the run.
        workers: number of ranks that share a batch.

    Raises:
        ConfigError: too few rows; the message has the numbers and what would be valid.
    """
    # Each share of a worker's batch has statistics of its own.
    needed = MIN_ROWS * (1 if config.shared_statistics else workers * config.optim.accumulate)
    all_rows = whole_batch(config.batch_size)
    if all(group.rows >= SAFE_FACTOR * needed for group in (all_rows, *row_groups(config, config.batch_size, 0))):
        return  # the usual case: drawing thousands of lam would add a second to every start
    groups = [all_rows, *row_groups(config, config.batch_size)]
    if not any(_has_too_few(group, needed) for group in groups):
        return
    modules = list(build_model(config).modules())
    if not any(isinstance(module, nn.BatchNorm2d) for module in modules):
        return
    dual = any(isinstance(module, DualBatchNorm2d) for module in modules)
    too_few = [group for group in (groups[1:] if dual else groups[:1]) if _has_too_few(group, needed)]
    if too_few:
        raise ConfigError(_explain_refusal(config, workers, min(too_few, key=lambda group: group.rows)))


def check_last_batch(config: Config, images: int, workers: int) -> None:
    """Refuse `drop_last=false` if the last batch of an epoch is too small for the ranks or for batch normalisation.

    Args:
        config: the run.
        images: training images.
        workers: number of ranks that share a batch.

    Raises:
        ConfigError: too few rows; the message has the numbers and what would be valid.
    """
    last = images % config.batch_size
    if config.drop_last or not last or config.data.extra:
        return
    try:
        if last < workers * config.optim.accumulate:
            raise ConfigError("fewer images than workers")
        check_bn_batch_size(replace(config, batch_size=last), workers)
    except ConfigError as error:
        where = f"{last} of {images} images on {workers} worker{'s' if workers > 1 else ''}"
        raise ConfigError(
            f"drop_last=false: the last batch of an epoch has {where}, too few for batch normalisation on each; valid: "
            "drop_last=true, or another batch_size"
        ) from error


def whole_batch(batch_size: int) -> RowGroup:
    """All rows, for a network with one set of statistics."""
    return RowGroup("", batch_size, batch_size)


def row_groups(config: Config, batch_size: int, draws: int = DRAWS) -> list[RowGroup]:
    """The rows of the clean and of the adversarial path, estimated from at least 8 batches of drawn lam."""
    method: Method = lookup("method", config.method.name)
    sampler, source = lookup("sampler", config.sampler.name), generator("rows per rank")
    threshold = method.routing(config.method).threshold
    batches = [sampler.draw(config.sampler, batch_size, source) for _ in range(max(8, draws // batch_size))]
    adversarial = (torch.stack(batches) > threshold).sum(1).double()
    error = 3 * float(adversarial.std()) / math.sqrt(len(batches))
    counts = {"clean": batch_size - float(adversarial.mean()), "adversarial": float(adversarial.mean())}
    return [RowGroup(name, rows, rows + error) for name, rows in counts.items()]


def _has_too_few(group: RowGroup, needed: int) -> bool:
    return group.rows > 0 and group.at_most < needed


def _explain_refusal(config: Config, workers: int, group: RowGroup) -> str:
    shares = config.optim.accumulate
    ranks = 1 if config.shared_statistics else workers * shares
    setting = f"batch_size={config.batch_size} on {workers} worker{'s' if workers > 1 else ''}"
    setting += f" with optim.accumulate={shares}" if shares > 1 else ""
    per = "over all workers" if config.shared_statistics else "per worker" if shares == 1 else "per share"
    rows = f"{group.rows / ranks:.3g} {group.name} images {per} and step".replace("  ", " ")
    valid = [f"batch_size={_smallest_batch(config, group, MIN_ROWS * ranks)} or more"]
    if ranks > 1 and group.at_most >= MIN_ROWS:
        most = math.floor(group.at_most / MIN_ROWS)
        if shares > 1:
            valid += ["a smaller optim.accumulate"]
        else:
            valid += [f"{most} workers or fewer" if most > 1 else "1 worker", "shared_statistics=true"]
    return f"{setting}: batch normalisation sees {rows} and needs {MIN_ROWS}; valid: {', '.join(valid)}"


def _smallest_batch(config: Config, group: RowGroup, needed: int) -> int:
    """About the smallest batch size with enough rows of a group."""
    batch = config.batch_size
    while group.at_most < needed:
        batch = math.ceil(batch * needed / group.at_most)
        groups = [whole_batch(batch), *row_groups(config, batch)]
        group = next(other for other in groups if other.name == group.name)
    return batch
