"""Displays for progress: a bar on a terminal, one line per epoch elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any, Protocol, TextIO

from distcond.results.labels import format_duration
from distcond.tqdm_bar import make_bar

#: A record of the history, or the content of progress.json.
Values = Mapping[str, Any]

#: Seconds between two lines about the same evaluation.
SWEEP_SECONDS = 60.0

_BAR_VALUES = {"loss": "loss {:.3g}", "images_per_second": "{:.0f} img/s"}


class ProgressDisplay(Protocol):
    """Where `ProgressReporter` shows a run."""

    def write_line(self, line: str) -> None:
        """Show a line that stays."""

    def epoch(self, record: Values, epochs: int) -> None:
        """Show a finished epoch; `record` is its record in the history."""

    def update(self, progress: Values) -> None:
        """Show the content of `progress.json`."""

    def close(self) -> None:
        """Release the display."""


def make_display() -> ProgressDisplay:
    """A bar on a terminal, and in a notebook with ipywidgets; lines elsewhere."""
    form = "{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} steps [{elapsed}{postfix}]"
    bar = make_bar(total=1, bar_format=form, leave=False)
    return LineDisplay(sys.stderr) if bar is None else BarDisplay(bar)


class LineDisplay:
    """One line per epoch, and one per minute in a long evaluation."""

    def __init__(self, out: TextIO) -> None:
        self.out, self._shown_at = out, time.monotonic()
        self._time_left = ""

    def write_line(self, line: str) -> None:
        print(line, file=self.out, flush=True)

    def epoch(self, record: Values, epochs: int) -> None:
        self.write_line("  ".join(filter(None, (format_epoch(record, epochs), self._time_left))))

    def update(self, progress: Values) -> None:
        """Write a line only during an evaluation: a log gets none within an epoch."""
        self._time_left = _format_time_left(progress)
        if "share" in progress and time.monotonic() - self._shown_at > SWEEP_SECONDS:
            self.write_line(_format_stage(progress))
        elif "share" in progress:
            return
        self._shown_at = time.monotonic()

    def close(self) -> None:
        """Nothing to release."""


class BarDisplay:
    """A bar over all steps of the run, with loss, speed, time left, shares of a step and the last validation."""

    def __init__(self, bar: Any) -> None:
        self.bar, self.validation = bar, ""

    def write_line(self, line: str) -> None:
        self.bar.write(line, file=self.bar.fp)

    def epoch(self, record: Values, epochs: int) -> None:
        self.validation = format_validation(record) or self.validation

    def update(self, progress: Values) -> None:
        epochs, steps = progress["epochs"], progress["steps"]
        done = progress.get("epoch", 0) * steps + progress.get("step", -1) + 1
        self.bar.total = epochs * steps
        self.bar.set_description_str(_format_stage(progress), refresh=False)
        values = [form.format(progress[name]) for name, form in _BAR_VALUES.items() if name in progress]
        values += [_format_time_left(progress), format_shares(progress), self.validation]
        self.bar.set_postfix_str("  ".join(filter(None, values)), refresh=False)
        self.bar.n = min(done, self.bar.total)
        self.bar.refresh()

    def close(self) -> None:
        self.bar.close()


def format_epoch(record: Values, epochs: int) -> str:
    """`epoch 3/30  loss 1.05  clean 86.5 %  adversarial 40.5 %  lr 0.099  630 img/s  val SA ...`.

    Ends with `warning: gradient masking: zero_gradients (37 % of 64 inputs)` where a check found gradient masking.
    """
    parts = [
        f"epoch {record['epoch']}/{epochs}",
        _format_number("loss {:.3g}", record.get("train_loss")),
        _format_number("clean {:.1%}", record.get("train_sa")),
        _format_number("adversarial {:.1%}", record.get("train_ra")),
        _format_number("lr {:.2g}", record.get("lr")),
        _format_number("{:.0f} img/s", record.get("images_per_second")),
        format_validation(record),
    ]
    line = "  ".join(filter(None, parts)).replace("%", " %")
    return "  ".join(filter(None, (line, format_masking(record))))


def format_validation(record: Values) -> str:
    """`val SA 96.1/93.9 RA 51.1/66.7 at lam 0/1`: both ends of the lam grid, in percent; empty without validation."""
    points = [point for point in record.get("val") or [] if point.get("width") == record["val"][0].get("width")]
    if not points:
        return ""
    points.sort(key=lambda point: point.get("blend_t", point["lam"]))
    ends = [points[0], points[-1]] if len(points) > 1 else points
    sa, ra = ("/".join(f"{100 * point[name]:.1f}" for point in ends) for name in ("sa", "ra"))
    positions = "/".join(f"{point.get('blend_t', point['lam']):g}" for point in ends)
    return f"val SA {sa} RA {ra} at {'t' if 'blend' in points[0] else 'lam'} {positions}"


def format_masking(record: Values) -> str:
    """The warnings of the gradient masking checks with their evidence; empty without any."""
    warnings = record.get("warnings") or {}
    listed = ", ".join(f"{name} ({evidence})" for name, evidence in warnings.items())
    return f"warning: gradient masking: {listed}" if listed else ""


def format_shares(progress: Values) -> str:
    """`attack 71% passes 24%`: the parts of a timed step that take 1 % or more, longest first."""
    parts = sorted((progress.get("shares") or {}).items(), key=lambda part: -part[1])
    return " ".join(f"{name} {share:.0%}" for name, share in parts if share >= 0.01)


def _format_number(form: str, value: float | None) -> str:
    return "" if value is None else form.format(value)


def _format_time_left(progress: Values) -> str:
    return f"{format_duration(progress['seconds_left'])} left" if "seconds_left" in progress else ""


def _format_stage(progress: Values) -> str:
    share = f" {progress['share']:.0%}" if "share" in progress else ""
    if progress["stage"] in ("test", "finished"):
        return f"{progress['stage']}{share}"
    epoch = f"epoch {progress.get('epoch', 0) + 1}/{progress['epochs']}"
    return epoch if progress["stage"] == "train" else f"{epoch} {progress['stage']}{share}"
