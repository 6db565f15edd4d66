"""`distcond.export`: write operating points of a run as plain networks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from distcond.api.errors import path_errors_as_config_errors
from distcond.api.run import Run, as_operating_point, open_run
from distcond.errors import ConfigError
from distcond.export import ExportSettings, check_settings, export_run
from distcond.operating_point import OperatingPoint


def export(
    run: Run | str | Path,
    points: float | OperatingPoint | Sequence[float | OperatingPoint],
    *,
    formats: Sequence[str] = ("safetensors", "pt2"),
    width: float = 1.0,
    noise_seed: int = 0,
    checkpoint: str = "best",
    keep_norm: bool = False,
    narrow: bool = True,
    card: bool = True,
    out: str | Path | None = None,
) -> list[Path]:
    """Write operating points as plain networks in torch's own layers, one folder each, as `distcond.export` does.

        (folder,) = distcond.export(run, 0.5)
        network = distcond.load(folder)  # x in [0, 1] (N, 3, H, W) -> logits (N, K)

    `distcond.fold(model, point)` gives such a network without files.

    Args:
        run: a `Run`, or the path or URI of one.
        points: positions in [0, 1] on the run's dial, or operating points; one or several.
        formats: of "safetensors", "pt2" (torch.export), "onnx" and "torchvision" (a state dict for its ResNets, with
            `keep_norm=True, narrow=False`); all but the first need no distcond.
        width: width multiplier, for networks with several.
        noise_seed: seed of the weight noise.
        checkpoint: "best", "last" or "last_raw".
        keep_norm: keep batch normalisation instead of folding it into the convolutions.
        narrow: remove channels that are constant or unused.
        card: write a model card with what was measured; needs test rows of these points.
        out: parent of the folders; None = `exports` in the run's directory.

    Returns:
        The folders, in the order of `points`.

    Raises:
        ConfigError: an invalid point or option, a missing library, or nothing was measured for the card.
    """
    run = open_run(run)
    several = [points] if isinstance(points, OperatingPoint | int | float) else list(points)
    if not several:
        raise ConfigError("export: no operating point; name one or several, such as 0.5 or [0, 0.5, 1]")
    settings = ExportSettings(
        formats=tuple(formats), width=width, noise_seed=noise_seed, checkpoint=checkpoint, keep_norm=keep_norm,
        narrow=narrow, card=card, out="" if out is None else str(out),
    )  # fmt: skip
    check_settings(settings)
    with path_errors_as_config_errors():
        return export_run(str(run.place), settings, [as_operating_point(run, point) for point in several])
