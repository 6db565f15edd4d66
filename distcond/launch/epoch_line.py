"""An epoch of the history in one line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def epoch_line(record: Mapping[str, Any], epochs: int) -> str:
    """`epoch 3/30  loss 1.05  clean 86.5 %  adversarial 40.5 %  lr 0.099  630 img/s  val SA ...`.

    Where the sentinel found something, `warning: gradient masking: zero_gradients (37 % of 64 inputs)` ends it.
    """
    parts = [
        f"epoch {record['epoch']}/{epochs}",
        _part("loss {:.3g}", record.get("train_loss")),
        _part("clean {:.1%}", record.get("train_sa")),
        _part("adversarial {:.1%}", record.get("train_ra")),
        _part("lr {:.2g}", record.get("lr")),
        _part("{:.0f} img/s", record.get("images_per_second")),
        validation(record),
    ]
    line = "  ".join(filter(None, parts)).replace("%", " %")
    return "  ".join(filter(None, (line, masking(record))))


def shares(record: Mapping[str, Any]) -> str:
    """`attack 71% passes 24%`: parts of the timed steps that take a percent or more, longest first."""
    parts = sorted((record.get("shares") or {}).items(), key=lambda part: -part[1])
    return " ".join(f"{name} {share:.0%}" for name, share in parts if share >= 0.01)


def validation(record: Mapping[str, Any]) -> str:
    """`val SA 96.1/93.9 RA 51.1/66.7 at lam 0/1`: the ends of the lam grid, in percent; empty without a sweep."""
    points = [point for point in record.get("val") or [] if point.get("width") == record["val"][0].get("width")]
    if not points:
        return ""
    points.sort(key=lambda point: point.get("blend_t", point["lam"]))
    ends = [points[0], points[-1]] if len(points) > 1 else points
    sa, ra = ("/".join(f"{100 * point[name]:.1f}" for point in ends) for name in ("sa", "ra"))
    places = "/".join(f"{point.get('blend_t', point['lam']):g}" for point in ends)
    return f"val SA {sa} RA {ra} at {'t' if 'blend' in points[0] else 'lam'} {places}"


def masking(record: Mapping[str, Any]) -> str:
    """The sentinel's warnings with what they rest on; empty without any."""
    facts = record.get("warnings") or {}
    named = ", ".join(f"{name} ({fact})" for name, fact in facts.items())
    return f"warning: gradient masking: {named}" if named else ""


def _part(form: str, value: float | None) -> str:
    return "" if value is None else form.format(value)
