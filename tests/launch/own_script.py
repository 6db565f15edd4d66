"""A Ray Tune script of a user's: `own_script.py CACHE`. Prints the epochs and the best objective of two trials."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler

import distcond.launch

SETTINGS = {
    "epochs": 2, "train_examples": 128, "batch_size": 64, "model.widths": "4,8", "attack.num_steps": 1,
    "eval.every": 1, "eval.lam_grid": "0,1", "eval.val_examples": 32, "eval.val_steps": 1, "eval.test_examples": 32,
    "eval.attack.num_steps": 1, "eval.train_examples": 0, "eval.sentinel": "off", "data.loader": "memory",
}  # fmt: skip


def main(cache: str) -> None:
    ray.init(num_cpus=2, include_dashboard=False)
    settings = {**SETTINGS, "data.cache_dir": cache, "launch.workers": 1}
    tuner = tune.Tuner(
        distcond.launch.trainable("float_digits", settings, ("hypervolume", "ra@1")),
        param_space={"optim.lr": tune.grid_search([0.05, 0.2])},
        tune_config=tune.TuneConfig(
            metric="hypervolume",
            mode="max",
            max_concurrent_trials=1,
            scheduler=ASHAScheduler(time_attr="epoch", grace_period=5, max_t=10),
        ),
        run_config=tune.RunConfig(storage_path=str(Path.cwd() / "tune"), verbose=0),
    )
    found = tuner.fit()
    print(json.dumps([{name: result.metrics[name] for name in ("epoch", "hypervolume", "ra@1")} for result in found]))


if __name__ == "__main__":
    main(sys.argv[1])
