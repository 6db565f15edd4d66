"""One evaluation result as a typed row: integer counts and everything that says what was counted."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from distcond.errors import ConfigError
from distcond.operating_point import BLENDS, OperatingPoint
from distcond.results.interval import Interval, wilson

SCHEMA_VERSION = 5
#: Read too: what later versions added has its default there.
_SINCE_4 = ("images", "blend", "blend_t", "train_world_sizes")
_SINCE_3 = ("random_start", "weights", *_SINCE_4)
OLDER: dict[int, tuple[str, ...]] = {
    1: ("threat", "attack_lam", "eot_draws", "block_size", "warnings", *_SINCE_3), 2: _SINCE_3, 3: _SINCE_4, 4: (),
}  # fmt: skip
#: Names of attacks in rows of versions 1 to 4, and what they are called since.
RENAMED = {"pgd": "pgd-last", "pgd-best": "pgd"}
SPLITS = ("train", "val", "test")
CHECKPOINTS = ("last", "best", "live", "last_raw")
NORMS = ("", "Linf", "L2")
THREATS = ("adaptive", "transfer", "worst")
NOISE_MODES = ("none", "fixed", "fresh", "eot")


@dataclass(frozen=True, kw_only=True)
class Row:
    """Counts of one evaluation of one network at one `lam` and `width` under one attack.

    `attack` "none" is standard accuracy; its `norm` is "" and its numbers are 0. "pgd" counts the best iterate, and
    "pgd-last" the last one; rows of versions 1 to 4 call them "pgd-best" and "pgd", and are read by the present names.
    `epsilon` and `step_size` are in units of the [0, 1] input. `checkpoint` "live" is the network while it trains,
    "last_raw" the last one as trained where "best" and "last" are averages of weights. `attempt` counts the starts of
    a run: the highest wins where two rows have one `key`.

    `blend` is "" of the network at `lam`; of a blend of its two paths it says of what ("weights", "outputs", of a pair
    of runs also "mixednuts", "folded"), `lam` is that of its robust end and `blend_t` the share of that end, in [0, 1].
    Rows of versions 1 to 3 have no blend.

    `threat` says what the attacker knows: "adaptive" = lam, "transfer" = the attack was optimised at `attack_lam`,
    "worst" = correct is what survives the attacks optimised at every lam of the grid (`attack_lam` is -1).
    `noise_mode` is that of the weight noise: "none" of a network without, "fixed" = one draw that the attacker knows,
    "fresh" = a new draw in every forward pass, "eot" = the same, and the attacker averages over `eot_draws` of them.
    `noise_seed` is 0 where `noise_mode` is "none". `block_size` is that of the blocks in which examples were counted,
    0 in rows of version 1; until version 4 a block's number seeded its attack. `random_start` is 1 where the attack was
    told to begin at a random point of the ball, 0 where it begins at the image or has a start of its own; rows of
    versions 1 and 2 do not say and are read as the default. `images` names the set of examples, the same for every run
    that counted the same ones; "" in rows of versions 1 to 3, which counted the first of the split. `world_size` counts
    the processes that did the counting, `train_world_sizes` those that trained: "2", or "1,2" where their number
    changed, "" in rows that do not say. `weights` is the digest of the network that was counted, "" where none was.
    `warnings` are names, comma-separated, "" = none found or none looked for.

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
        """The network that was counted."""
        blend: Any = self.blend
        return OperatingPoint(self.lam, blend, self.blend_t, self.width, self.noise_seed)

    def __post_init__(self) -> None:
        if self.threat == "adaptive":
            object.__setattr__(self, "attack_lam", self.lam)
        for name, kind in COLUMNS.items():
            object.__setattr__(self, name, _typed(name, kind, getattr(self, name)))
        _check_choices(self)
        _check_ranges(self)


COLUMNS: dict[str, str] = {field.name: str(field.type) for field in fields(Row)}
"""Field name to "str", "int" or "float", in the order in which files hold them."""


class Attack(NamedTuple):
    """An attack with all that decides its strength."""

    name: str
    norm: str
    epsilon: float
    step_size: float
    num_steps: int
    restarts: int
    precision: str
    random_start: int = 0


class Key(NamedTuple):
    """What a row measures. Two rows with one key are two measurements of one thing."""

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
    """The attack of a row, lengths rounded to 1e-4 of 1/255: 8/255 is one attack in float32 and in float64."""
    # In units of 1/255, because the usual lengths are whole there: decimal digits of 8/255 end next to a 5.
    epsilon, step_size = (round(255 * length, 4) / 255 for length in (row.epsilon, row.step_size))
    numbers = row.num_steps, row.restarts, row.precision, row.random_start
    return Attack(row.attack, row.norm, epsilon, step_size, *numbers)


def key(row: Row) -> Key:
    """What the row measures. Places are rounded to 1e-6: 0.2 is one point in float32 and in float64."""
    lam, t, width, attack_lam = (round(n, 6) for n in (row.lam, row.blend_t, row.width, row.attack_lam))
    return Key(
        row.run_id, row.epoch, row.split, row.checkpoint, lam, row.blend, t, width, attack_of(row), row.threat,
        attack_lam, row.noise_mode, row.noise_seed, row.eot_draws, row.block_size, row.images,
    )  # fmt: skip


def position(row: Row) -> float:
    """Where the row lies along its dial, in [0, 1]: `blend_t` of a blend, otherwise lam, rounded to 1e-6."""
    return key(row).blend_t if row.blend else key(row).lam


def accuracy(row: Row) -> float:
    """Fraction of correct examples, in [0, 1]."""
    return row.num_correct / row.num_examples


def interval(row: Row) -> Interval:
    """Wilson 95 % interval of `accuracy(row)`."""
    return wilson(row.num_correct, row.num_examples)


def highest_attempt(rows: Iterable[Row]) -> list[Row]:
    """One row per key, sorted by key: of the highest attempt; among equals with the most examples; then given last."""
    kept: dict[Key, Row] = {}
    for row in rows:
        other = kept.get(key(row))
        if other is None or (row.attempt, row.num_examples) >= (other.attempt, other.num_examples):
            kept[key(row)] = row
    return [kept[k] for k in sorted(kept)]


def from_dict(values: Mapping[str, Any], where: str = "row") -> Row:
    """A row from a mapping that holds every field of its version; `where` names its origin in errors.

    Raises:
        ConfigError: another schema version, a missing or unknown field, or a bad value.
    """
    version = values.get("schema_version")
    if version != SCHEMA_VERSION and version not in OLDER:
        readable = ", ".join(str(number) for number in (*OLDER, SCHEMA_VERSION))
        raise ConfigError(f"{where}: schema_version is {version!r}; this distcond reads versions {readable}")
    later = OLDER.get(version, ())
    missing = [name for name in COLUMNS if name not in values and name not in later]
    if missing:
        raise ConfigError(f"{where}: missing {', '.join(missing)}; a row has every field of distcond.results.row.Row")
    unknown = [name for name in values if name not in COLUMNS]
    if unknown:
        raise ConfigError(f"{where}: unknown {', '.join(unknown)}; fields of a row are {', '.join(COLUMNS)}")
    try:
        return Row(**{**_unsaid(values), **values, **_renamed(values), "schema_version": SCHEMA_VERSION})
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def _unsaid(values: Mapping[str, Any]) -> dict[str, Any]:
    """Where the attack of an older row began, unless it was told otherwise: at random if it is given its step size."""
    own = values.get("attack") in ("none", "fgsm") or not values.get("step_size")
    return {"random_start": int(not own)}


def _renamed(values: Mapping[str, Any]) -> dict[str, Any]:
    """What the attack of an older row is called now."""
    attack = values.get("attack")
    if values["schema_version"] == SCHEMA_VERSION or attack not in RENAMED:
        return {}
    return {"attack": RENAMED[attack]}


def _typed(name: str, kind: str, value: Any) -> str | int | float:
    # Counts and accuracies often come from numpy; files and comparisons want Python's own types.
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
    valid = {
        "split": SPLITS,
        "blend": BLENDS,
        "checkpoint": CHECKPOINTS,
        "norm": NORMS,
        "threat": THREATS,
        "noise_mode": NOISE_MODES,
    }
    for name, choices in valid.items():
        if getattr(row, name) not in choices:
            raise ConfigError(f"row.{name} is {getattr(row, name)!r}; choose from {', '.join(map(repr, choices))}")


def _check_ranges(row: Row) -> None:
    if not 0 <= row.lam <= 1:
        raise ConfigError(f"row.lam is {row.lam}; it must lie in [0, 1]")
    if not 0 <= row.blend_t <= (1 if row.blend else 0):
        raise ConfigError(f"row.blend_t is {row.blend_t}; it must lie in [0, 1], and be 0 without a blend")
    if row.num_examples < 1 or not 0 <= row.num_correct <= row.num_examples:
        counts = f"{row.num_correct} of {row.num_examples}"
        raise ConfigError(f"row.num_correct is {counts}; it must lie in [0, num_examples] with num_examples >= 1")
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
