"""What a run is called: a readable name and a hash of what decides its result, not of where it runs."""

from __future__ import annotations

import hashlib
import json

from distcond.config.overrides import to_settings
from distcond.config.schema import Config

#: Settings that change where and how a run happens, never what it computes.
ELSEWHERE = (
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
    "fresh",
)


def run_id(config: Config, data_fingerprint: str) -> str:
    """`method-dataset-model-sSEED-HASH`: the same for the same configuration and data content, wherever it runs."""
    deciding = {path: value for path, value in to_settings(config).items() if not _elsewhere(path)}
    text = json.dumps([deciding, data_fingerprint], sort_keys=True)
    digest = hashlib.blake2b(text.encode(), digest_size=4).hexdigest()
    names = (config.method.name, config.data.name, config.model.name)
    readable = "-".join(name.rpartition(":")[0].rpartition(".")[2] or name for name in names)
    return f"{readable}-s{config.seed}-{digest}"


def _elsewhere(path: str) -> bool:
    return any(path == name or (name.endswith(".") and path.startswith(name)) for name in ELSEWHERE)
