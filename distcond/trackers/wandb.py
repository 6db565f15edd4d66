"""A run of Weights & Biases, configured by WANDB_MODE, WANDB_PROJECT and WANDB_API_KEY."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from typing import Any

from distcond.trackers.base import RunInfo, Tracker

PROJECT = "distcond"


class WandbRun:
    """The W&B run whose ID is a hash of the run's identity, so that a later start resumes it."""

    def __init__(self, info: RunInfo) -> None:
        import wandb

        run_id = hashlib.blake2b(info.identity.encode(), digest_size=8).hexdigest()
        settings = wandb.Settings(console="off", silent=True, disable_git=True, save_code=False, x_disable_stats=True)
        self.run: Any = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            id=run_id,
            name=info.name,
            dir=str(info.path),
            config=dict(info.settings),
            resume="allow",
            settings=settings,
        )

    def write(self, epoch: int, metrics: Mapping[str, float]) -> None:
        self.run.log({**metrics, "epoch": epoch}, step=epoch)

    def close(self) -> None:
        self.run.finish()


SINK = Tracker(
    name="wandb",
    summary="Weights & Biases, configured by WANDB_MODE (offline works), WANDB_PROJECT and WANDB_API_KEY",
    module="wandb",
    install="wandb",
    open=WandbRun,
)
