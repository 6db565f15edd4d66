"""A colleague who may only read a run and a cache uses both; what he makes goes where he may write."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from distcond.train import main
from support import second_user

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

ARGS = [
    *("float_digits", "launch=local", "data.loader=memory", "epochs=1", "train_examples=64", "batch_size=64"),
    *("model.widths=4,8", "attack.num_steps=1", "eval.lam_grid=0,1", "eval.every=0", "eval.train_examples=0"),
    *("eval.val_examples=10", "eval.val_steps=1", "eval.test_examples=10", "eval.attack.num_steps=1"),
]

#: One process for all, since importing torch takes seconds.
COLLEAGUE = """
import sys
import distcond
from distcond import calibrate, evaluate, report, status, train
run, runs, cache, *settings = sys.argv[1:]
results = {
    "load": lambda: distcond.load(run) is None,
    "status": lambda: status.main([runs]),
    "report": lambda: report.main([runs]),
    "evaluate": lambda: evaluate.main([run, "attack=pgd", "eval.attack.num_steps=2"]),
    "calibrate": lambda: calibrate.main([run, "sa=0.01"]),
    "train": lambda: train.main([*settings, cache, "run_root=runs", "seed=1"]),
}
for name, call in results.items():
    print(f"{name}: {int(call())}", flush=True)
"""


def test_colleague_uses_a_run_and_a_cache(open_path: Path) -> None:
    cache = f"data.cache_dir={open_path / 'cache'}"
    assert main([*ARGS, cache, f"run_root={open_path / 'runs'}"]) == 0
    (run,) = [path for path in (open_path / "runs").iterdir() if not path.name.startswith(".")]
    before = {path: path.stat().st_mtime_ns for path in open_path.rglob("*")}
    own = open_path / "colleague"
    own.mkdir()
    os.chown(own, second_user.NUMBER, second_user.NUMBER)
    words = [sys.executable, "-c", COLLEAGUE, run, open_path / "runs", cache, *ARGS]
    with second_user.start(words, env={**os.environ, "HOME": str(own)}, cwd=own) as colleague:
        assert colleague.wait() == 0, colleague.output
    for name in ("load", "status", "report", "evaluate", "calibrate", "train"):
        assert f"{name}: 0\n" in colleague.output, colleague.output
    assert "Traceback" not in colleague.output
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert {path for path in open_path.rglob("*") if own not in (path, *path.parents)} == set(before)
    assert list((own / "evaluations" / run.name).rglob("*.parquet")) != []
    assert list((own / "runs").glob("*/finished.json")) != []
