"""TensorBoard event files in `<run>/tensorboard`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distcond.run_layout import TENSORBOARD_DIR
from distcond.trackers.base import RunInfo, Tracker


class EventFiles:
    """A new event file per start. Epochs after `info.after` in earlier files are purged: they are written again."""

    def __init__(self, info: RunInfo) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder = info.path / TENSORBOARD_DIR
        self.out: Any = SummaryWriter(str(folder), purge_step=info.after + 1)
        if not info.after:
            lines = "\n".join(f"    {path} = {value}" for path, value in info.settings.items())
            self.out.add_text("settings", lines, 1)

    def write(self, epoch: int, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            self.out.add_scalar(name, value, epoch)
        self.out.flush()

    def close(self) -> None:
        self.out.close()


SINK = Tracker(
    name="tensorboard",
    summary="TensorBoard event files in the run directory: tensorboard --logdir runs",
    module="tensorboard",
    install="tensorboard",
    open=EventFiles,
)
