"""Redo the sweep of a finished or interrupted run: `python -m distcond.evaluate RUN_DIR [PATH=VALUE ...]`.

    python -m distcond.evaluate runs/float-digits-... eval.attack.num_steps=100 eval.attack.restarts=5
    python -m distcond.evaluate runs/float-digits-... checkpoint=last split=val eval.lam_grid=0,0.5,1

PATH is any `eval.*`, `data.*` or `launch.device` setting, and `checkpoint` (best, last; last_raw = without weight
averaging) or `split` (test, val). Rows of another attack setting stand beside the run's own; the same setting again
replaces its own rows.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distcond.config.command_line import guarded
from distcond.config.overrides import apply
from distcond.config.setting import choice
from distcond.engine.restore import WHICH
from distcond.engine.resweep import resweep
from distcond.engine.run_dir import RunDir
from distcond.engine.world import World, choose_device
from distcond.errors import ConfigError
from distcond.registry import unknown
from distcond.results.table import trade_off_table

_OPEN = ("eval.", "data.root", "data.loader", "data.cache_dir", "data.threads", "launch.device")


def main(argv: Sequence[str]) -> int:
    """Sweep a checkpoint again and print its table."""
    if not argv or argv[0] in ("--help", "-h"):
        print(__doc__)
        return 0
    run = RunDir(Path(argv[0]).expanduser().absolute())
    words = _settings(argv[1:])
    which = choice("checkpoint", words.pop("checkpoint", "best"), WHICH)
    split = choice("split", words.pop("split", "test"), ("test", "val"))
    config = apply(run.config(), words)
    rows = resweep(config, World(device=choose_device(config.launch.device)), run, which, split)
    print(trade_off_table(rows))
    return 0


def _settings(words: Sequence[str]) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for word in words:
        path, _, value = word.partition("=")
        if path not in ("checkpoint", "split") and not path.startswith(_OPEN):
            raise ConfigError(unknown("setting of an evaluation", path, ["checkpoint", "split", *_OPEN]))
        settings[path] = value
    return settings


if __name__ == "__main__":
    guarded(lambda: main(sys.argv[1:]))
