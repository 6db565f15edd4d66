"""TensorBoard's event files, in `<run>/tensorboard`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distcond.sinks.sink import Sink, Subject

FOLDER = "tensorboard"


class Events:
    """A further event file in the folder. What earlier files hold of later epochs is taken back: it comes again."""

    def __init__(self, subject: Subject) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder = subject.path / FOLDER
        self.out: Any = SummaryWriter(str(folder), purge_step=subject.after + 1)
        if not subject.after:
            lines = "\n".join(f"    {path} = {value}" for path, value in subject.settings.items())
            self.out.add_text("settings", lines, 1)

    def write(self, epoch: int, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            self.out.add_scalar(name, value, epoch)
        self.out.flush()

    def close(self) -> None:
        self.out.close()


SINK = Sink(
    name="tensorboard",
    summary="TensorBoard event files in the run directory: tensorboard --logdir runs",
    module="tensorboard",
    install="tensorboard",
    open=Events,
)
