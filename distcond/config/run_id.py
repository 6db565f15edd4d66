"""Run IDs: a readable name and a hash of the settings that affect the result, not of where it runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from distcond.config.overrides import NAMED_GROUPS, apply_overrides, to_settings
from distcond.config.schema import Config

#: Settings that change where and how a run happens, never what it computes.
NON_IDENTITY_FIELDS = (
    "recipe",
    "launch.",
    "init_from",  # what lies there decides, by the digest of its content
    "data.root",
    "data.extra",  # as data.root: its content decides
    "data.loader",
    "data.cache_dir",
    "data.threads",
    "eval.sentinel",
    "save_every",
    "save_steps",
    "save_minutes",
    "run_root",
    "sinks",
    "fresh",
)


def run_id(config: Config, data_fingerprint: str) -> str:
    """`method-dataset-model-sSEED-HASH`: the same for the same configuration and data content, wherever it runs.

    Only what differs from the defaults is hashed, so that a setting that a later version adds renames no run.
    """
    named = {kind: getattr(config, kind).name for kind in NAMED_GROUPS}
    usual = to_settings(apply_overrides(Config(), named))
    settings = to_settings(config).items()
    deciding = {path: value for path, value in settings if not _is_non_identity(path) and value != usual.get(path)}
    deciding |= named
    text = json.dumps([deciding, data_fingerprint], sort_keys=True)
    digest = hashlib.blake2b(text.encode(), digest_size=4).hexdigest()
    names = (config.method.name, config.data.name, config.model.name)
    readable = "-".join(name.rpartition(":")[0].rpartition(".")[2] or name for name in names)
    return f"{readable}-s{config.seed}-{digest}"


def differences(one: Config, other: Config) -> dict[str, tuple[object, object]]:
    """The settings that make two configs two runs, by path, with the values of both."""
    found, wanted = to_settings(one), to_settings(other)
    paths = [path for path in {**found, **wanted} if not _is_non_identity(path)]
    return {p: (found.get(p), wanted.get(p)) for p in paths if found.get(p) != wanted.get(p)}


def identity_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the settings, by path, that decide what a run computes."""
    return {path: value for path, value in settings.items() if not _is_non_identity(path)}


def _is_non_identity(path: str) -> bool:
    return any(path == name or (name.endswith(".") and path.startswith(name)) for name in NON_IDENTITY_FIELDS)
