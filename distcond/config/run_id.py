"""Run IDs: a readable name and a hash of the settings that affect the result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from distcond.config.overrides import NAMED_GROUPS, apply_overrides, to_settings
from distcond.config.schema import Config

#: Settings that change where and how a run is executed, but not its result.
NON_IDENTITY_FIELDS = (
    "recipe",
    "launch.",
    "init_from",  # the digest of its content is hashed instead
    "method.code_file",  # likewise
    "data.root",
    "data.extra",  # as data.root: the fingerprint of the content is hashed instead
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
    """`method-dataset-model-sSEED-HASH`, the same for the same configuration and data content on any machine.

    Only settings that differ from their defaults are hashed, so a new setting in a later version renames no run.
    """
    named = {kind: getattr(config, kind).name for kind in NAMED_GROUPS}
    defaults = to_settings(apply_overrides(Config(), named))
    settings = to_settings(config).items()
    hashed = {path: value for path, value in settings if not _is_non_identity(path) and value != defaults.get(path)}
    hashed |= named
    text = json.dumps([hashed, data_fingerprint], sort_keys=True)
    digest = hashlib.blake2b(text.encode(), digest_size=4).hexdigest()
    names = (config.method.name, config.data.name, config.model.name)
    readable = "-".join(name.rpartition(":")[0].rpartition(".")[2] or name for name in names)
    return f"{readable}-s{config.seed}-{digest}"


def differences(one: Config, other: Config) -> dict[str, tuple[object, object]]:
    """The settings that affect the result and differ between two configs, by path, with both values."""
    first, second = to_settings(one), to_settings(other)
    paths = [path for path in {**first, **second} if not _is_non_identity(path)]
    return {p: (first.get(p), second.get(p)) for p in paths if first.get(p) != second.get(p)}


def identity_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings, by path, that affect the result of a run."""
    return {path: value for path, value in settings.items() if not _is_non_identity(path)}


def _is_non_identity(path: str) -> bool:
    return any(path == name or (name.endswith(".") and path.startswith(name)) for name in NON_IDENTITY_FIELDS)
