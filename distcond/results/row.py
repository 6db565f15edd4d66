"""One evaluation result as a typed row: integer counts, and every fact about what was counted."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from distcond.errors import ConfigError
from distcond.operating_point import BLENDS, OperatingPoint
from distcond.results.interval import Interval, wilson

SCHEMA_VERSION = 5
SPLITS = ("train", "val", "test")
CHECKPOINTS = ("last", "best", "live", "last_raw", "each")
NORMS = ("", "Linf", "L2")
THREATS = ("adaptive", "transfer", "worst")
NOISE_MODES = ("none", "fixed", "fresh", "eot")
CHOICES = {
    "split": SPLITS,
    "blend": BLENDS,
    "checkpoint": CHECKPOINTS,
    "norm": NORMS,
    "threat": THREATS,
    "noise_mode": NOISE_MODES,
}


@dataclass(frozen=True, kw_only=True)
class Row:
    """Counts of one evaluation of one network at one `lam` and `width` under one attack.

    Run: `attempt` counts the starts of a run; of two rows with one `key` the higher attempt wins. `checkpoint` is
    "live" for the network during training, and "last_raw" for the last one without weight averaging where "best" and
    "last" are averages. "each" stands for an operating point's own best checkpoint by the metric of the row (OAT), so
    its rows are of several epochs. `world_size` is the number of processes that evaluated, `train_world_sizes` those
    that trained: "2", or "1,2" if the number changed, "" if unknown. `weights` is a digest of the network, "" if not
    computed.

    Network: `blend` is "" for the network at `lam`. A blend interpolates "weights" or "outputs" of the two paths (for
    a pair of runs also "mixednuts" and "folded"); `lam` is then that of its robust end and `blend_t` the share of that
    end, in [0, 1]. Rows of versions 1 to 3 have no blend.

    Attack: `attack` "none" is standard accuracy, with `norm` "" and all numbers 0. "pgd" keeps the best iterate and
    "pgd-last" the last one; rows of versions 1 to 4 call these "pgd-best" and "pgd" and are read under the new names.
    `epsilon` and `step_size` are in units of the [0, 1] input. `random_start` is 1 if the attack starts at a random
    point of the threat model, 0 if at the image or at a start of its own; rows of versions 1 and 2 lack it and get the
    default of their attack. `block_size` is the number of examples per block, 0 in rows of version 1; up to version 4
    the index of the block seeded its attack.

    Threat: "adaptive" knows lam, "transfer" was optimised at `attack_lam`, "worst" counts the examples that survive the
    attacks optimised at every lam of the grid (`attack_lam` is -1). `noise_mode` is that of the weight noise: "none"
    without noise, "fixed" for one draw that the attacker knows, "fresh" for a new draw per forward pass, "eot" for the
    same with an attacker who averages over `eot_draws` draws. `noise_seed` is 0 if `noise_mode` is "none".

    Counts: `images` is a digest of the set of examples, "" in rows of versions 1 to 3, which used the first examples of
    the split. `warnings` are comma-separated names; "" if none were found or checked.

    Raises:
        ConfigError: a field has the wrong type or is out of range.
    """

    run_id: str
    attempt: int = 0
    epoch: int
    step: int
    split: str
    checkpoint: str
    lam: float
    width: float = 1.0
    density: float = 1.0
    attack: str = "none"
    norm: str = ""
    epsilon: float = 0.0
    step_size: float = 0.0
    num_steps: int = 0
    restarts: int = 0
    random_start: int = 0
    threat: str = "adaptive"
    attack_lam: float = -1.0
    noise_mode: str = "none"
    noise_seed: int = 0
    eot_draws: int = 1
    block_size: int = 0
    precision: str = "float32"
    method: str
    model: str
    dataset: str
    seed: int
    num_correct: int
    num_examples: int
    wall_seconds: float = 0.0
    world_size: int = 1
    train_world_sizes: str = ""
    torch_version: str = ""
    git_commit: str = ""
    hardware: str = ""
    weights: str = ""
    images: str = ""
    warnings: str = ""
    blend: str = ""
    blend_t: float = 0.0
    schema_version: int = SCHEMA_VERSION

    @property
    def point(self) -> OperatingPoint:
        """The evaluated network."""
        blend: Any = self.blend
        return OperatingPoint(self.lam, blend, self.blend_t, self.width, self.noise_seed)

    def __post_init__(self) -> None:
        if self.threat == "adaptive":
            object.__setattr__(self, "attack_lam", self.lam)
        for name, kind in COLUMNS.items():
            object.__setattr__(self, name, _typed(name, kind, getattr(self, name)))
        _check_choices(self)
        _check_ranges(self)


#: Field name to "str", "int" or "float", in the order of the columns in files.
COLUMNS: dict[str, str] = {field.name: str(field.type) for field in fields(Row)}


class Attack(NamedTuple):
    """An attack with every setting that affects its strength."""

    name: str
    norm: str
    epsilon: float
    step_size: float
    num_steps: int
    restarts: int
    precision: str
    random_start: int = 0


class Key(NamedTuple):
    """What a row measures. Rows with one key measure the same thing."""

    run_id: str
    epoch: int
    split: str
    checkpoint: str
    lam: float
    blend: str
    blend_t: float
    width: float
    attack: Attack
    threat: str
    attack_lam: float
    noise_mode: str
    noise_seed: int
    eot_draws: int
    block_size: int
    images: str


def attack_of(row: Row) -> Attack:
    """The attack of a row. Lengths are rounded to 1e-4 of 1/255, so 8/255 is the same in float32 and float64."""
    # In units of 1/255 the usual lengths are integers. Rounding 8/255 to decimals would fall next to a 5.
    epsilon, step_size = (round(255 * length, 4) / 255 for length in (row.epsilon, row.step_size))
    numbers = row.num_steps, row.restarts, row.precision, row.random_start
    return Attack(row.attack, row.norm, epsilon, step_size, *numbers)


def key(row: Row) -> Key:
    """What the row measures. Positions are rounded to 1e-6, so 0.2 is the same in float32 and float64."""
    lam, t, width, attack_lam = (round(n, 6) for n in (row.lam, row.blend_t, row.width, row.attack_lam))
    return Key(
        row.run_id, row.epoch, row.split, row.checkpoint, lam, row.blend, t, width, attack_of(row), row.threat,
        attack_lam, row.noise_mode, row.noise_seed, row.eot_draws, row.block_size, row.images,
    )  # fmt: skip


def position(row: Row) -> float:
    """The position on its curve, in [0, 1]: `blend_t` of a blend, otherwise lam, rounded to 1e-6."""
    return key(row).blend_t if row.blend else key(row).lam


def accuracy(row: Row) -> float:
    """The fraction of correct examples, in [0, 1]."""
    return row.num_correct / row.num_examples


def interval(row: Row) -> Interval:
    """The Wilson 95 % interval of `accuracy(row)`."""
    return wilson(row.num_correct, row.num_examples)


def highest_attempt(rows: Iterable[Row]) -> list[Row]:
    """One row per key, sorted by key: the highest attempt, then the most examples, then the last in order."""
    kept: dict[Key, Row] = {}
    for row in rows:
        other = kept.get(key(row))
        if other is None or (row.attempt, row.num_examples) >= (other.attempt, other.num_examples):
            kept[key(row)] = row
    return [kept[k] for k in sorted(kept)]


def _typed(name: str, kind: str, value: Any) -> str | int | float:
    # Numbers often come from numpy; files and comparisons need Python's types.
    try:
        if kind == "str" and isinstance(value, str):
            return str(value)
        if kind == "int" and not isinstance(value, bool):
            return operator.index(value)
        if kind == "float" and not isinstance(value, bool | str) and math.isfinite(value):
            return float(value)
    except TypeError:
        pass
    raise ConfigError(f"row.{name} is {value!r}; it must be a {'finite float' if kind == 'float' else kind}")


def _check_choices(row: Row) -> None:
    for name, choices in CHOICES.items():
        if getattr(row, name) not in choices:
            raise ConfigError(f"row.{name} is {getattr(row, name)!r}; choose from {', '.join(map(repr, choices))}")


def _check_ranges(row: Row) -> None:
    if not 0 <= row.lam <= 1:
        raise ConfigError(f"row.lam is {row.lam}; it must be in [0, 1]")
    if not 0 <= row.blend_t <= (1 if row.blend else 0):
        raise ConfigError(f"row.blend_t is {row.blend_t}; it must be in [0, 1], and be 0 without a blend")
    if row.num_examples < 1 or not 0 <= row.num_correct <= row.num_examples:
        counts = f"{row.num_correct} of {row.num_examples}"
        raise ConfigError(f"row.num_correct is {counts}; it must be in [0, num_examples] with num_examples >= 1")
    if row.attack_lam > 1 or (row.attack_lam < 0) != (row.threat == "worst"):
        raise ConfigError(
            f"row.attack_lam is {row.attack_lam} with threat {row.threat!r}; -1 for worst, else in [0, 1]"
        )
    sizes = ("epsilon", "step_size", "num_steps", "restarts", "width", "density", "eot_draws", "block_size")
    for name in ("attempt", "epoch", "step", *sizes):
        if getattr(row, name) < 0:
            raise ConfigError(f"row.{name} is {getattr(row, name)}; it must not be negative")
    if row.random_start not in (0, 1):
        raise ConfigError(f"row.random_start is {row.random_start}; choose from 0, 1")
    if row.attack == "none" and any((*attack_of(row)[1:6], row.random_start)):
        raise ConfigError("row.attack is 'none' with attack settings; norm must be '' and every attack number 0")
