"""Rows of every schema version, read as rows of the current one.

Version 2 added threat models, EOT draws, block size and warnings; version 3 random starts and the digest of weights;
version 4 image sets, blends and the numbers of training processes; version 5 renamed the PGD attacks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distcond.errors import ConfigError
from distcond.results.row import COLUMNS, SCHEMA_VERSION, Row
from distcond.terminal_text import has_control, printable_line

_SINCE_4 = ("images", "blend", "blend_t", "train_world_sizes")
_SINCE_3 = ("random_start", "weights", *_SINCE_4)
#: Older versions that are readable, with the fields they lack; these get their default.
OLDER: dict[int, tuple[str, ...]] = {
    1: ("threat", "attack_lam", "eot_draws", "block_size", "warnings", *_SINCE_3), 2: _SINCE_3, 3: _SINCE_4, 4: (),
}  # fmt: skip
#: Attack names of versions 1 to 4 and their present names.
RENAMED = {"pgd": "pgd-last", "pgd-best": "pgd"}


def from_dict(values: Mapping[str, Any], where: str = "row") -> Row:
    """A row from a mapping with every field of its version. `where` names the source in errors.

    Raises:
        ConfigError: an unknown schema version, a missing or unknown field, or a bad value.
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
    for name, value in values.items():
        if isinstance(value, str) and has_control(value):
            raise ConfigError(f"{where}: {name} holds control characters: {printable_line(value)}")
    try:
        return Row(**{**_defaults_of_older(values), **values, **_renamed(values), "schema_version": SCHEMA_VERSION})
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def _defaults_of_older(values: Mapping[str, Any]) -> dict[str, Any]:
    """`random_start` of rows without it: attacks with a step size start at random by default, others do not."""
    own_start = values.get("attack") in ("none", "fgsm") or not values.get("step_size")
    return {"random_start": int(not own_start)}


def _renamed(values: Mapping[str, Any]) -> dict[str, Any]:
    """The present attack name of an older row."""
    attack = values.get("attack")
    if values["schema_version"] == SCHEMA_VERSION or attack not in RENAMED:
        return {}
    return {"attack": RENAMED[attack]}
