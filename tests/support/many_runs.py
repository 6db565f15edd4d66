"""Writes finished runs without training them: every small file of a run directory, with made-up accuracies."""

from __future__ import annotations

import hashlib
import json
import random
import sys
from functools import cache
from pathlib import Path
from typing import Any

from distcond.config.overrides import resolve, to_settings
from distcond.results.row import Row
from distcond.results.store import write_part
from distcond.run_layout import ATTEMPT_FILE, CONFIG_FILE, FINISHED_FILE, HISTORY_FILE, PROGRESS_FILE, STARTS_FILE

EPOCHS, STEPS, IMAGES = 3, 23, 360
PGD = {
    "attack": "pgd", "norm": "Linf", "epsilon": 0.25, "step_size": 0.0625, "num_steps": 20, "restarts": 1,
    "random_start": 1,
}  # fmt: skip
#: Method, and a setting with its values: conditional networks have a grid of lam, the others one point.
METHODS: tuple[tuple[str, str, tuple[float, ...]], ...] = (
    ("float", "optim.lr", (0.05, 0.1, 0.2)),
    ("oat", "optim.lr", (0.05, 0.1)),
    ("trades", "method.beta", (1.0, 3.0, 6.0)),
    ("pgd_at", "sampler.lam", (0.5, 1.0)),
)


def write_finished_runs(root: Path, count: int) -> list[Path]:
    """Write `count` runs of four methods below `root`, each of a setting and seed of its own; returns their paths."""
    choices = [(method, setting, value) for method, setting, values in METHODS for value in values]
    return [write_finished_run(root, *choices[i % len(choices)], seed=i // len(choices)) for i in range(count)]


def write_finished_run(root: Path, method: str, setting: str, value: float, seed: int) -> Path:
    """One finished run of three epochs: settings, starts, history, summary and the rows of six evaluations."""
    settings, name, lams = _settings(method, setting, value, seed)
    path, rng = root / name, random.Random(name)
    ends = {lam: (0.99 - 0.1 * lam - 0.05 * rng.random(), 0.4 * lam**0.5 + 0.1 * rng.random()) for lam in lams}
    evaluations = [
        ("test-best", "test", "best", 2),
        ("test-last", "test", "last", 3),
        ("train-last", "train", "last", 3),
    ]
    evaluations += [(f"val-epoch-{epoch:04d}", "val", "live", epoch) for epoch in range(1, EPOCHS + 1)]
    for part, split, checkpoint, epoch in evaluations:
        common = {
            "run_id": name, "epoch": epoch, "step": epoch * STEPS, "split": split, "checkpoint": checkpoint,
            "method": method, "model": "small_cnn", "dataset": "digits", "seed": seed, "num_examples": IMAGES,
            "block_size": 256, "images": "5f0b8a7c1d2e3f40", "torch_version": "2.15.0", "hardware": "2 cores",
        }  # fmt: skip
        write_part(path, part, [row for lam, scores in ends.items() for row in _rows(common, lam, *scores)])
    _write_small_files(path, settings, seed, ends)
    return path


@cache
def _of_method(method: str, setting: str, value: float) -> tuple[dict[str, Any], tuple[float, ...]]:
    config = resolve("float_digits", {"method": method, setting: value, "epochs": EPOCHS})
    return to_settings(config), tuple(config.eval.lam_grid)


def _settings(method: str, setting: str, value: float, seed: int) -> tuple[dict[str, Any], str, tuple[float, ...]]:
    settings, lams = _of_method(method, setting, value)
    digest = hashlib.blake2b(f"{setting}={value}".encode(), digest_size=4).hexdigest()
    return settings | {"seed": seed}, f"{method}-digits-small_cnn-s{seed}-{digest}", lams


def _rows(common: dict[str, Any], lam: float, sa: float, ra: float) -> list[Row]:
    clean = Row(lam=lam, num_correct=round(sa * IMAGES), **common)
    return [clean, Row(lam=lam, num_correct=round(ra * IMAGES), **PGD, **common)]


def _write_small_files(path: Path, settings: dict[str, Any], seed: int, ends: dict[float, tuple[float, float]]) -> None:
    val = [{"lam": lam, "sa": sa, "ra": ra} for lam, (sa, ra) in ends.items()]
    history = [
        {"epoch": epoch, "stage": "train", "step": epoch * STEPS, "train_loss": 2 / epoch, "lr": 0.1, "seconds": 1.5,
         "images_per_second": 900.0, "val": val, "world_sizes": [1]}
        for epoch in range(1, EPOCHS + 1)
    ]  # fmt: skip
    points = [
        {"lam": lam, "width": 1.0, "sa": sa, "ra": ra, "flops": 8e6 + 1e4 * seed, "dense_flops": 9e6, "nonzeros": 7000,
         "density": 1.0, "robust_overfitting_gap": 0.01, "robust_generalization_gap": None}
        for lam, (sa, ra) in ends.items()
    ]  # fmt: skip
    files: dict[str, Any] = {
        CONFIG_FILE: {"schema_version": 1, "run_id": path.name, "settings": settings, "sources": {}},
        STARTS_FILE: [{"id": f"{seed:016x}", "time": "2026-11-30T06:23:58+0000", "command": ["python", "train"]}],
        ATTEMPT_FILE: {"attempt": 0, "workers": 1},
        PROGRESS_FILE: {"stage": "finished", "epochs": EPOCHS, "steps": STEPS, "time": 1796019840.0, "epoch": EPOCHS},
        FINISHED_FILE: {"epochs": EPOCHS, "parameters": 7000, "train_flops": 4e9, "points": points},
    }
    for name, content in files.items():
        (path / name).write_text(json.dumps(content, indent=1) + "\n")
    (path / HISTORY_FILE).write_text("".join(json.dumps(record) + "\n" for record in history))


if __name__ == "__main__":  # PYTHONPATH=tests python -m support.many_runs FOLDER COUNT
    write_finished_runs(Path(sys.argv[1]), int(sys.argv[2]))
