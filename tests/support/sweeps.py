"""Small sweeps started as commands, for the tests of sweeps."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

#: Runs of a second or two, once their processes are up.
TINY = (
    "epochs=2", "train_examples=128", "batch_size=64", "model.widths=4,8", "attack.num_steps=1", "eval.every=1",
    "eval.lam_grid=0,1", "eval.val_examples=32", "eval.val_steps=1", "eval.test_examples=32", "eval.attack.num_steps=1",
    "eval.train_examples=0", "eval.sentinel=off",
)  # fmt: skip

SPACE = """
question = "Which learning rate?"
recipe = "float_digits"
trials = {trials}

[space."optim.lr"]
kind = "loguniform"
low = 0.01
high = 0.3
"""


def command(place: Any, *words: str, **variables: str) -> subprocess.Popen[str]:
    """Start `python -m distcond.tune` there."""
    return subprocess.Popen(
        [sys.executable, "-m", "distcond.tune", *words],
        cwd=place.path,
        env={**place.environment, **variables},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def begin(place: Any, trials: int, *words: str, space: str = SPACE, **variables: str) -> subprocess.Popen[str]:
    """Start a small sweep in `place.path / "sweep"`."""
    (place.path / "space.toml").write_text(space.format(trials=trials))
    cache = f"data.cache_dir={place.path / 'cache'}"
    return command(place, "space.toml", "dir=sweep", cache, "data.loader=memory", *TINY, *words, **variables)


def trials(sweep: Path) -> list[dict[str, Any]]:
    """The trials' files."""
    return [json.loads(file.read_text()) for file in sorted((sweep / "trials").glob("[0-9]*.json"))]
