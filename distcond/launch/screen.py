"""Where progress is shown: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any, Protocol, TextIO

from distcond.launch.epoch_line import epoch_line, shares, validation
from distcond.results.label import duration

Values = Mapping[str, Any]

_SHOWN = {"loss": "loss {:.3g}", "images_per_second": "{:.0f} img/s"}


#: Seconds between two lines about one sweep.
SWEEP_SECONDS = 60.0


class Screen(Protocol):
    """What `Watch` shows things on."""

    def say(self, line: str) -> None:
        """Show a line that stays."""

    def epoch(self, record: Values, epochs: int) -> None:
        """Show a finished epoch."""

    def at(self, progress: Values) -> None:
        """Show how far the run is."""

    def close(self) -> None:
        """Nothing more comes."""


class Lines:
    """One line per epoch, and one a minute in a long sweep."""

    def __init__(self, out: TextIO) -> None:
        self.out, self._said = out, time.monotonic()
        self._left = ""

    def say(self, line: str) -> None:
        print(line, file=self.out, flush=True)

    def epoch(self, record: Values, epochs: int) -> None:
        self.say("  ".join(filter(None, (epoch_line(record, epochs), self._left))))

    def at(self, progress: Values) -> None:
        """Within an epoch a log file learns nothing."""
        self._left = f"{duration(progress['seconds_left'])} left" if "seconds_left" in progress else ""
        if "share" in progress and time.monotonic() - self._said > SWEEP_SECONDS:
            self.say(_where(progress))
        elif "share" in progress:
            return
        self._said = time.monotonic()

    def close(self) -> None:
        """Nothing is open."""


class Bar:
    """A bar over all steps of the run, with loss, speed, time left, shares of a step and the last validation."""

    def __init__(self, bar: Any) -> None:
        self.bar, self.validation = bar, ""

    def say(self, line: str) -> None:
        self.bar.write(line, file=self.bar.fp)

    def epoch(self, record: Values, epochs: int) -> None:
        self.validation = validation(record) or self.validation

    def at(self, progress: Values) -> None:
        epochs, steps = progress["epochs"], progress["steps"]
        done = progress.get("epoch", 0) * steps + progress.get("step", -1) + 1
        self.bar.total = epochs * steps
        self.bar.set_description_str(_where(progress), refresh=False)
        shown = [form.format(progress[name]) for name, form in _SHOWN.items() if name in progress]
        shown += [f"{duration(progress['seconds_left'])} left"] if "seconds_left" in progress else []
        shown += [shares(progress), self.validation]
        self.bar.set_postfix_str("  ".join(filter(None, shown)), refresh=False)
        self.bar.n = min(done, self.bar.total)
        self.bar.refresh()

    def close(self) -> None:
        self.bar.close()


def screen() -> Screen:
    """A bar if standard error is a terminal and tqdm is there."""
    if sys.stderr.isatty():
        try:
            from tqdm import tqdm
        except ImportError:
            return Lines(sys.stderr)
        form = "{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} steps [{elapsed}{postfix}]"
        return Bar(tqdm(total=1, bar_format=form, file=sys.stderr, dynamic_ncols=True, leave=False))
    return Lines(sys.stderr)


def _where(progress: Values) -> str:
    share = f" {progress['share']:.0%}" if "share" in progress else ""
    if progress["stage"] in ("test", "finished"):
        return f"{progress['stage']}{share}"
    epoch = f"epoch {progress.get('epoch', 0) + 1}/{progress['epochs']}"
    return epoch if progress["stage"] == "train" else f"{epoch} {progress['stage']}{share}"
