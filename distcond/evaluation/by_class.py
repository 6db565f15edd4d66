"""SA and RA by class, from the outcomes that evaluations keep: no image is looked at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from distcond.atomic_io import read_json
from distcond.attacks.attack import EARLIER_NAMES
from distcond.data.splits import image_set_digest
from distcond.evaluation import outcomes
from distcond.reporting.per_class import ClassScores, ClassScoresKey, count_by_class
from distcond.results.comparison import ComparisonGroup, MeasuredPoint
from distcond.results.lines import Line
from distcond.results.row import Attack, Row, attack_of
from distcond.results.series import Score
from distcond.run_layout import OUTCOMES_DIR
from distcond.runs.pair_record import mix_in, read_fit
from distcond.runs.run_dir import RunDir


class Kept(NamedTuple):
    """A folder of outcomes and what its settings say."""

    folder: Path
    settings: dict[str, Any]


class Right(NamedTuple):
    """Of some examples of a split: their classes (n,) int64, and which count as right, (n,) bool."""

    labels: np.ndarray
    right: np.ndarray


def classes_of(field: ComparisonGroup, run_dirs: Mapping[str, Path]) -> dict[ClassScoresKey, ClassScores]:
    """The classes' scores at the field's points, as far as the outcomes behind them were kept.

    Evaluations keep them, and the sweeps at the end of a training; of validation while it trains there are only counts.

    Raises:
        ConfigError: an outcome that cannot be read.
    """
    found = dict[ClassScoresKey, ClassScores]()
    for line, points in zip(field.lines, field.points_by_line, strict=True):
        for part in line.by_run:
            run = RunDir(run_dirs[part.series.origin.run_id])
            kept = [Kept(f.parent, read_json(f)) for f in sorted((run.path / OUTCOMES_DIR).glob("*/settings.json"))]
            kept.sort(key=lambda entry: "starts" not in entry.settings)  # those of earlier versions come last
            mix = mix_in(read_fit(run))  # rows do not name it: they are those of the last one
            kept = [entry for entry in kept if "mix" not in entry.settings or tuple(entry.settings["mix"]) == mix]
            for point in (at for at in points if at.at.run_id == part.series.origin.run_id):
                clean = _outcomes(kept, part, point, point.sa, None)
                robust = _outcomes(kept, part, point, point.ra, part.series.attack)
                if clean and robust and np.array_equal(clean.labels, robust.labels):
                    scores = count_by_class(clean.labels.tolist(), clean.right.tolist(), robust.right.tolist())
                    found[ClassScoresKey(field.attack, point.at, point.name)] = scores
    return found


def _outcomes(kept: list[Kept], line: Line, point: MeasuredPoint, score: Score, attack: Attack | None) -> Right | None:
    """The outcomes behind a score; None where they were not kept."""
    for entry in kept:
        if _fits(entry.settings, line.series.origin, point, attack):
            read = _read(entry, score.num_examples, line.series.origin.images)
            if read is not None and (int(read.right.sum()), len(read.right), 1) == tuple(score):
                return read
    return None


def _fits(settings: dict[str, Any], origin: Row, point: MeasuredPoint, attack: Attack | None) -> bool:
    """Whether outcomes were counted under what a row says."""
    if "weights" not in settings:
        return False  # of an older version, in which it was not said whose outcomes these are
    lam = origin.attack_lam if attack and origin.threat == "transfer" else point.at.point.lam
    numbers = (settings["lam"], settings.get("blend_t", 0.0), settings["width"], settings["attack_lam"])
    if not np.allclose(numbers, (point.at.point.lam, point.at.point.t, point.at.point.width, lam), rtol=0, atol=1e-6):
        return False
    if settings.get("blend", "") != point.at.point.blend:
        return False
    same = ("weights", "split", "epoch", "block_size", "noise_seed", "precision", "seed")
    if any(settings[name] != getattr(origin, name) for name in same):
        return False
    if attack is None or settings["attack"] == "none":
        return attack is None and settings["attack"] == "none" and settings["noise"] == _clean(origin.noise_mode)
    noise = settings["noise"], settings["eot_draws"]
    if noise != (origin.noise_mode, origin.eot_draws):
        return False
    strength = settings["strength"] | {"random_start": int(settings["strength"]["random_start"])}
    name = EARLIER_NAMES.get(settings["attack"], settings["attack"])
    return attack_of(replace(origin, attack=name, **strength)) == attack


def _clean(noise_mode: str) -> str:
    """Without an attacker to average over draws, "eot" is "fresh"."""
    return "fresh" if noise_mode == "eot" else noise_mode


def _read(kept: Kept, examples: int, images: str) -> Right | None:
    """The blocks of a folder that hold so many examples; None where one is missing, or they are not these images."""
    rows, labels, right = [], [], []
    for block, begin in enumerate(range(0, examples, kept.settings["block_size"])):
        size = min(kept.settings["block_size"], examples - begin)
        file = kept.folder / outcomes.file_name(block, size)
        if not file.exists():
            return None
        held = outcomes.read(file)
        rows.append(held.examples)
        labels.append(held.labels)
        right.append(held.correct)
    split = kept.settings.get("images", "")  # unknown to older versions, which counted the first of the split
    if (images and split and image_set_digest(split, np.concatenate(rows)) != images) or (
        not images and "order" in kept.settings
    ):
        return None
    return Right(np.concatenate(labels), np.concatenate(right))
