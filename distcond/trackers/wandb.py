"""A run of Weights & Biases, as WANDB_MODE, WANDB_PROJECT and WANDB_API_KEY say."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from distcond.trackers.base import RunInfo, Tracker

PROJECT = "distcond"


class WandbRun:
    """The run whose id is made of the run's identity, so that a later start goes on with it."""

    def __init__(self, subject: RunInfo) -> None:
        import os

        import wandb

        identity = hashlib.blake2b(subject.identity.encode(), digest_size=8).hexdigest()
        settings = wandb.Settings(console="off", silent=True, disable_git=True, save_code=False, x_disable_stats=True)
        self.run: Any = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            id=identity,
            name=subject.name,
            dir=str(subject.path),
            config=dict(subject.settings),
            resume="allow",
            settings=settings,
        )

    def write(self, epoch: int, metrics: Mapping[str, float]) -> None:
        self.run.log({**metrics, "epoch": epoch}, step=epoch)

    def close(self) -> None:
        self.run.finish()


SINK = Tracker(
    name="wandb",
    summary="Weights & Biases, as WANDB_MODE (offline is fine), WANDB_PROJECT and WANDB_API_KEY say",
    module="wandb",
    install="wandb",
    open=WandbRun,
)
