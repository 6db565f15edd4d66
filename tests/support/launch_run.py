"""`launch_run.py RUN_PATH [PATH=VALUE ...]` starts a small run like `distcond.train`, in a given directory."""

from __future__ import annotations

import logging
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from distcond.config.overrides import resolve
from distcond.data.prepare import infer_from_root, prepare_data
from distcond.errors import ConfigError
from distcond.launch import driver
from distcond.launch.stopping import RunStopped
from distcond.runs.failures import LaunchFailed
from distcond.runs.run_dir import RunDir
from distcond.runs.start import pull_remote_run, started_run

SETTINGS = {
    "data.loader": "memory",
    "epochs": 2,
    "train_examples": 128,
    "batch_size": 64,
    "model.widths": "4,8",
    "attack.num_steps": 1,
    "eval.lam_grid": "0,1",
    "eval.every": 1,
    "eval.val_examples": 32,
    "eval.val_steps": 1,
    "eval.test_examples": 32,
    "eval.attack.num_steps": 1,
    "launch.timeout": 60,
}


def main(run_path: Path, overrides: list[str]) -> int:
    """Start the run; return the exit status."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    config = resolve("float_digits", SETTINGS | dict(override.split("=", 1) for override in overrides))
    try:
        driver.check(config)
        config = replace(config, data=infer_from_root(config.data))
        prepare_data(config.data)
        run = RunDir(run_path)
        is_main = driver.is_main_process()
        with started_run(config, run, pull_remote_run(config, run)) if is_main else nullcontext(0) as attempt:
            driver.launch(config, run_path, attempt)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except LaunchFailed as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    except RunStopped as stop:
        print(f"stopped: {stop}", file=sys.stderr)
        return stop.status
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
