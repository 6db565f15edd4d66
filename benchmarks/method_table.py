"""Every method on CIFAR-10 with ResNet-20 at the same counted work, as one table.

    python benchmarks/method_table.py ~/cifar10 --run-root runs/methods --write docs/reports/methods.md

The work is that of three epochs of 10,000 images of PGD-AT with PGD-7: 510,000 forward-equivalents times images, where
a narrower width counts by its FLOPs and a zero weight counts like any other. Each method gets as many images per epoch
as this work allows, at most all 45,000. The table shows that all methods run and learn on a small budget, not which is
best. Step times are those of `benchmarks/train_step.py`. Existing runs are reused, so the command can be stopped and
repeated.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from distcond.config.overrides import resolve
from distcond.config.schema import Config
from distcond.data.prepare import prepare_data
from distcond.launch import driver
from distcond.registry import table
from distcond.results.store import read_rows
from distcond.runs.run_dir import RunDir, run_dir_for
from distcond.training.flops import forwards_per_image

WORK = 3 * 10_000 * 17
EPOCHS = 3
ROBUST_BIRD_SEARCH = 3  # epochs of standard training before its ticket


def main() -> None:
    """Train the missing runs, then print (and write) the table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("root", help="the CIFAR-10 folder (data.root)")
    arguments.add_argument("--methods", default=",".join(table("method")), help="names, comma-separated")
    arguments.add_argument("--run-root", default="runs/methods", help="folder of the runs")
    arguments.add_argument("--write", help="a Markdown file to write the table to")
    args = arguments.parse_args()
    lines = [HEADER, RULE]
    for name in args.methods.split(","):
        config = run_config(name, args.root, args.run_root)
        run = run_dir(config)
        if not run.finished:
            print(f"{name}: {config.train_examples} images in each of {EPOCHS} epochs", flush=True)
            with run.begin(config) as attempt:
                driver.launch(config, run.path, attempt)
        lines.append(table_lines(name, run))
    print("\n".join(lines))
    if args.write:
        Path(args.write).write_text("\n".join(lines) + "\n")


def run_config(method: str, root: str, run_root: str) -> Config:
    """The config of a method, with the images per epoch that the work allows."""
    settings: dict[str, Any] = {
        "method": method, "model": "resnet20", "data": "cifar10", "data.root": root, "run_root": run_root,
        "launch": "local", "epochs": EPOCHS, "batch_size": 128, "optim.lr": 0.1, "optim.schedule": "onecycle",
        "attack.epsilon": "8/255", "attack.step_size": 10 / 255 / 7, "attack.num_steps": 7,
        "eval.lam_grid": "0,1", "eval.attack.epsilon": "8/255", "eval.attack.step_size": "2/255",
        "eval.attack.num_steps": 20, "eval.test_examples": 2000, "eval.train_examples": 500,
        "eval.val_examples": 250, "eval.batch_size": 250, "eval.every": 1, "precision.train": "auto",
    }  # fmt: skip
    if method == "robust_bird":
        settings |= {"method.search_epochs": ROBUST_BIRD_SEARCH, "method.queue_length": 2}
    if method in ("flying_bird", "flying_bird_plus"):
        settings["method.update_every"] = 40  # as many updates as in the paper: every 900 steps of a longer run
    if method == "flying_bird_plus":
        settings["method.window"] = 1  # the paper's 4 epochs exceed this run
    config = resolve("float_digits", settings)
    images = int(WORK / EPOCHS / forwards_per_image(config))
    return resolve("float_digits", settings | {"train_examples": min(images, 45_000)})


def run_dir(config: Config) -> RunDir:
    """The directory of the config's run."""
    return run_dir_for(config, prepare_data(config.data).fingerprint)


COLUMNS = (
    *("method", "width", "SA lam 0", "RA lam 0", "SA lam 1", "RA lam 1"),
    *("parameters", "non-zeros", "FLOPs/image", "train FLOPs"),
)
HEADER, RULE = f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"


def table_lines(method: str, run: RunDir) -> str:
    """One line per width of a finished run (widest and narrowest)."""
    summary = json.loads((run.path / "finished.json").read_text())
    widths = sorted({point["width"] for point in summary["points"]}, reverse=True)
    return "\n".join(_line(method, run, summary, width) for width in {widths[0]: 0, widths[-1]: 0})


def _line(method: str, run: RunDir, summary: dict[str, Any], width: float) -> str:
    rows = [row for row in read_rows(run.path) if (row.split, row.checkpoint, row.width) == ("test", "last", width)]
    score = {(row.lam, row.attack): f"{100 * row.num_correct / row.num_examples:.1f}" for row in rows}
    ends = [score.get((lam, attack), "") for lam in (0.0, 1.0) for attack in ("none", "pgd")]
    point = max((p for p in summary["points"] if p["width"] == width), key=lambda p: p["flops"])
    cells = [
        method, f"{width:g}", *ends, f"{summary['parameters']:,}", f"{point['nonzeros']:,}", f"{point['flops']:.3g}",
        f"{summary['train_flops']:.3g}",
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
