"""Export operating points of a run as plain networks: `python -m distcond.export RUN_DIR dial=0.5 [OPTION=VALUE ...]`.

    python -m distcond.export runs/RUN dial=0,0.5,1                    one folder per position of the run's dial
    python -m distcond.export runs/RUN lam=0.2 formats=safetensors,pt2,onnx
    python -m distcond.export runs/RUN dial=0.5 width=0.5 keep_norm=true out=DIR

Each folder holds model.safetensors, config.json, a model card with what was measured (README.md), leaderboard.json, and
the exported programs. `distcond.load(FOLDER)` reads it; model.pt2 and model.onnx need no distcond.

  dial=0,0.5,1       positions in [0, 1] along the dial of the run (eval.dial), or lam=0,0.2 for the papers' lam
  rule=weights       what the dial moves: switch, weights or outputs; of a pair also mixednuts, folded
  dial_lam=1         lam of the robust end of a blend
  width=1            multiplier of the width, for networks with several
  noise_seed=0       seed of the weight noise
  checkpoint=best    best, last or last_raw
  keep_norm=false    keep batch normalisation instead of folding it into the convolutions
  narrow=true        remove channels that are constant or unused
  formats=safetensors,pt2    also: onnx; torchvision: a state dict with the names of torchvision's resnet18, 34 and 50
  card=true          write the model card; needs test rows of this operating point
  push=USER/NAME     upload the one export to the Hugging Face hub (pip install huggingface_hub; hf auth login)
  private=true       whether a new repository is private
  out=DIR            parent of the folders; default RUN_DIR/exports
"""

from __future__ import annotations

import dataclasses
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

import distcond
from distcond.config.command_line import run_cli
from distcond.config.fields import check_choice, parse_value
from distcond.config.run_id import run_id
from distcond.config.schema import Config
from distcond.data.prepare import prepare_data, resolve_dataset
from distcond.errors import ConfigError
from distcond.exporting.card import rows_of, write_card
from distcond.exporting.folder import ExportConfig
from distcond.exporting.hub import check_repository, push
from distcond.exporting.programs import require_onnx
from distcond.exporting.target import check_target, replace_folder, require_finite, write_files
from distcond.exporting.torchvision import check_torchvision
from distcond.models.conditional import ConditionalModel
from distcond.models.dial import point_on_dial
from distcond.models.plain_network import fold
from distcond.operating_point import OperatingPoint
from distcond.registry import describe_unknown
from distcond.results.store import read_rows
from distcond.runs.code_trust import take_trust
from distcond.runs.load_run import CHECKPOINT_CHOICES, epoch_at, load
from distcond.runs.provenance import git_commit
from distcond.runs.run_cache import fetch_run
from distcond.runs.run_dir import RunDir
from distcond.storage.uri import is_uri

FORMATS = ("safetensors", "pt2", "onnx", "torchvision")


@dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """A parsed command line."""

    dial: tuple[float, ...] = ()
    lam: tuple[float, ...] = ()
    rule: str = ""
    dial_lam: float = 0.0
    width: float = 1.0
    noise_seed: int = 0
    checkpoint: str = "best"
    keep_norm: bool = False
    narrow: bool = True
    formats: tuple[str, ...] = ("safetensors", "pt2")
    card: bool = True
    push: str = ""
    private: bool = True
    out: str = ""


def main(argv: Sequence[str]) -> int:
    """Export every operating point and print its folder; returns the exit status."""
    if not argv or set(argv) & {"--help", "-h"}:
        print(__doc__)
        return 0
    argv = take_trust(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    settings = parse_settings(argv[1:])
    folders = export_run(argv[0], settings, done=print)
    if settings.push:
        print(push(folders[0], settings.push, settings.private))
    return 0


def export_run(
    place: str | Path,
    settings: ExportSettings,
    points: Sequence[OperatingPoint] = (),
    done: Callable[[Path], None] = lambda folder: None,
) -> list[Path]:
    """Write the exports of a run and return their folders. Everything is checked before the first is written.

    Args:
        place: the run's path or URI.
        settings: what to write and where.
        points: the operating points in place of those that `settings` name.
        done: called with each folder when it is complete.

    Raises:
        ConfigError: no run there, an invalid setting, or a network that cannot be exported.
    """
    if is_uri(str(place)) and not settings.out:
        raise ConfigError(f"out=: name a folder; {place} is not on this machine")
    run = RunDir(fetch_run(place, checkpoints=True))
    points = points or points_of(settings, run.config())
    model = load(run.path, settings.checkpoint)
    out = Path(settings.out).expanduser() if settings.out else run.path / "exports"
    folders = {point: out / slug(point, settings) for point in points}
    if len({*folders.values()}) < len(points):
        raise ConfigError("export: two of the operating points have one name; export them to different out=")
    exports = {point: describe(model, run, point, settings) for point in points}
    for point, folder in folders.items():
        check_target(folder, exports[point])
        if "torchvision" in settings.formats:
            check_torchvision(exports[point], settings.narrow)
    rows = read_rows(run.path) if settings.card else []
    cards = {point: rows_of(rows, exports[point], settings.checkpoint) if settings.card else [] for point in points}
    for point, folder in folders.items():
        network = fold(model, point, settings.width, settings.noise_seed, settings.keep_norm, settings.narrow)
        require_finite(network, point)
        with replace_folder(folder) as temporary:
            files = write_files(network, exports[point], temporary, settings.formats)
            if settings.card:
                write_card(temporary, exports[point], cards[point], files)
        done(folder)
    return list(folders.values())


def parse_settings(argv: Sequence[str]) -> ExportSettings:
    """Parse a command line.

    Raises:
        ConfigError: an unknown name, a bad value, or both or neither of dial and lam.
    """
    types = get_type_hints(ExportSettings)
    values = dict[str, Any]()
    for arg in argv:
        name, equals, value = arg.partition("=")
        if name not in types or not equals:
            raise ConfigError(describe_unknown("setting of an export", name, types))
        values[name] = parse_value(name, value, types[name])
    settings = ExportSettings(**values)
    if bool(settings.dial) == bool(settings.lam):
        raise ConfigError("export: name the operating points by either dial=0,0.5,1 or lam=0,0.2")
    check_settings(settings)
    return settings


def check_settings(settings: ExportSettings) -> None:
    """Check the choices of an export.

    Raises:
        ConfigError: an unknown checkpoint or format, a missing library, or an upload of less than one whole export.
    """
    check_choice("checkpoint", settings.checkpoint, CHECKPOINT_CHOICES)
    for name in settings.formats:
        check_choice("formats", name, FORMATS)
    if "onnx" in settings.formats:
        require_onnx()
    if settings.push:
        _check_push(settings)


def _check_push(settings: ExportSettings) -> None:
    check_repository(settings.push)
    if len(settings.dial or settings.lam) != 1 or "safetensors" not in settings.formats or not settings.card:
        raise ConfigError(f"push={settings.push}: needed one operating point, formats=safetensors and card=true")


def points_of(settings: ExportSettings, config: Config) -> tuple[OperatingPoint, ...]:
    """The operating points to export. Rule and robust end default to those of the run.

    Raises:
        ConfigError: a position outside [0, 1], an unknown rule, or a rule with lam.
    """
    if settings.lam:
        if settings.rule or settings.dial_lam:
            raise ConfigError("export: rule and dial_lam go with dial=, not with lam=")
        return tuple(OperatingPoint(lam).checked() for lam in settings.lam)
    rule, lam = settings.rule or config.eval.dial, settings.dial_lam or config.eval.dial_lam
    return tuple(point_on_dial(rule, dial, lam) for dial in settings.dial)


def slug(point: OperatingPoint, settings: ExportSettings) -> str:
    """Name of the folder of one export."""
    parts = [point.slug, *([f"width{settings.width:g}"] if settings.width != 1 else [])]
    parts += [f"noise{settings.noise_seed}"] if settings.noise_seed else []
    return "-".join([*parts, *(["bn"] if settings.keep_norm else [])])


def describe(model: ConditionalModel, run: RunDir, point: OperatingPoint, settings: ExportSettings) -> ExportConfig:
    """The content of `config.json` of one export.

    Raises:
        ConfigError: a width the model was not built with.
    """
    config, starts = run.config(), run.starts()
    dataset = resolve_dataset(config.data)
    model.width_index(settings.width)
    options = {name: value for name, value in dataclasses.asdict(config.model).items() if name != "name"}
    place = {**point._asdict(), "width": settings.width, "noise_seed": settings.noise_seed}
    return ExportConfig(
        architecture=config.model.name,
        options={name: list(value) if isinstance(value, tuple) else value for name, value in options.items()},
        num_classes=dataset.num_classes,
        image_size=dataset.image_size,
        classes=model.classes,
        operating_point=place,
        keep_norm=settings.keep_norm,
        mix=model.mix._asdict() if model.mix is not None and point.blend == "mixednuts" else None,
        provenance={
            "run_id": run.name,
            "recipe": config.recipe,
            "method": config.method.name,
            "dataset": config.data.name,
            "extra_data": config.data.extra,
            "data": data_digest(config, run),
            "seed": config.seed,
            "checkpoint": settings.checkpoint,
            "epoch": epoch_at(run, settings.checkpoint),
            "trained_at_commit": str(starts[-1].get("git_commit", "")) if starts else "",
            "exported_at_commit": git_commit(),
            "distcond": distcond.__version__,
        },
    )


def data_digest(config: Config, run: RunDir) -> str:
    """Digest of the training images; "" where they are not at hand, or no longer those that the run ID was made of."""
    try:
        found = prepare_data(config.data).fingerprint
    except ConfigError:
        return ""
    return found if run.name.startswith(run_id(config, found)) else ""


if __name__ == "__main__":
    run_cli(lambda: main(sys.argv[1:]))
