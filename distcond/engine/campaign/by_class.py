"""SA and RA by class, from the outcomes that evaluations keep and the labels of the images they counted."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from distcond.data.described import prepared
from distcond.data.open import open_source
from distcond.engine.campaign.outcomes import ROBUST
from distcond.engine.campaign.plan import FOLDER
from distcond.engine.run_dir import RunDir, read_json
from distcond.errors import ConfigError
from distcond.results.classes import ByClass, Known, by_class
from distcond.results.label import attack_label
from distcond.results.lines import Line
from distcond.results.operating import Field, Operating
from distcond.results.row import Attack
from distcond.results.series import Score


class Kept(NamedTuple):
    """A folder of outcomes and what its settings say."""

    folder: Path
    settings: dict[str, Any]


def classes_of(field: Field, run_dirs: Mapping[str, Path]) -> dict[Known, ByClass]:
    """The classes' scores at the field's points, as far as the outcomes behind them were kept.

    `evaluate` keeps them; of the sweep at the end of a training there are only counts.

    Raises:
        ConfigError: the images, whose labels are needed, are not where the run's config says.
    """
    found = dict[Known, ByClass]()
    for line, points in zip(field.lines, field.on_line, strict=True):
        run = RunDir(run_dirs[line.series.origin.run_id])
        kept = [Kept(f.parent, read_json(f)) for f in sorted((run.path / FOLDER).glob("*/settings.json"))]
        for point in points:
            clean = _right(kept, line, point, point.sa, None)
            robust = _right(kept, line, point, point.ra, line.series.attack)
            if clean is not None and robust is not None:
                labels = labels_of(run.path, line.series.origin.split)[: len(clean)]
                found[Known(field.attack, point.at)] = by_class(labels.tolist(), clean.tolist(), robust.tolist())
    return found


@cache
def labels_of(run_path: Path, split: str) -> np.ndarray:
    """The labels of a split of the run's data, (n,) int64.

    Raises:
        ConfigError: the data are not there.
    """
    data = RunDir(run_path).config().data
    source = open_source(prepared(data), split, "cpu", data.threads)
    parts = np.array_split(np.arange(len(source)), max(1, len(source) // 1000))
    labels: np.ndarray = np.concatenate([y.numpy() for _, y in source.read(parts)])
    return labels


def _right(kept: list[Kept], line: Line, point: Operating, score: Score, attack: Attack | None) -> np.ndarray | None:
    """Which of the first examples of the split are right, (n,) bool; None where no outcomes give just these counts."""
    for entry in kept:
        if _fits(entry.settings, line, point, attack):
            right = _read(entry.folder)
            if right is not None and (int(right.sum()), len(right), 1) == tuple(score):
                return right
    return None


def _fits(settings: dict[str, Any], line: Line, point: Operating, attack: Attack | None) -> bool:
    origin = line.series.origin
    lam = origin.attack_lam if attack and origin.threat == "transfer" else point.at.lam
    numbers = (settings["lam"], settings["width"], settings["attack_lam"])
    if not np.allclose(numbers, (point.at.lam, point.at.width, lam), rtol=0, atol=1e-6):
        return False
    if (settings["split"], settings["epoch"]) != (origin.split, origin.epoch):
        return False
    if attack is None or settings["attack"] == "none":
        return attack is None and settings["attack"] == "none"
    strength = settings["strength"]
    numbers_of = {name: strength[name] for name in ("norm", "epsilon", "step_size", "num_steps", "restarts")}
    named = Attack(settings["attack"], **numbers_of, precision=settings["precision"])
    return settings["noise"] == origin.noise_mode and attack_label(named) == attack_label(attack)


def _read(folder: Path) -> np.ndarray | None:
    """Whether each example counts as right, over the blocks of a folder; None where one is missing or unreadable."""
    blocks = sorted(folder.glob("block-*.npz"))
    right, seen = [], 0
    for block in blocks:
        try:
            with np.load(block, allow_pickle=False) as file:
                examples, broken_by = file["examples"], file["broken_by"]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise ConfigError(f"{block} is no readable outcome; delete it and evaluate again") from error
        if not np.array_equal(examples, np.arange(seen, seen + len(examples))):
            return None
        right.append(broken_by == ROBUST)
        seen += len(examples)
    return np.concatenate(right) if right else None
