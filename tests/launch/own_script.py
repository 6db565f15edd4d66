"""A user's Ray Tune script: `own_script.py CACHE`. Prints the last epoch and the objectives of three trials.

The second trial is long, and Ray's own ASHA stops it after its first epoch. The third can start only once the second
has released the single core.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler

import distcond.launch

SETTINGS = {
    "method": "faulty:METHOD", "train_examples": 64, "batch_size": 32, "model.widths": "4,8",
    "eval.every": 1, "eval.lam_grid": "0,1", "eval.val_examples": 32, "eval.val_steps": 1, "eval.test_examples": 32,
    "eval.attack.num_steps": 1, "eval.train_examples": 0, "eval.sentinel": "off", "data.loader": "memory",
}  # fmt: skip

OBJECTIVES = ("hypervolume", "ra@1", "train_flops")


def main(cache: str) -> None:
    ray.init(num_cpus=1, include_dashboard=False)
    settings = {**SETTINGS, "data.cache_dir": cache, "launch.workers": 1}
    tuner = tune.Tuner(
        distcond.launch.trainable("float_digits", settings, OBJECTIVES),
        param_space={
            "attack.num_steps": tune.grid_search([2, 9, 1]),
            "epochs": tune.sample_from(lambda spec: 200 if spec.config["attack.num_steps"] == 9 else 1),
        },
        tune_config=tune.TuneConfig(
            metric="train_flops",  # deterministic, so that the same trial is stopped every time
            mode="min",
            max_concurrent_trials=1,
            scheduler=ASHAScheduler(time_attr="epoch", grace_period=1, max_t=200),
        ),
        run_config=tune.RunConfig(storage_path=str(Path.cwd() / "tune"), verbose=0),
    )
    found = tuner.fit()
    print(json.dumps([{name: result.metrics[name] for name in ("epoch", *OBJECTIVES)} for result in found]))


if __name__ == "__main__":
    main(sys.argv[1])
