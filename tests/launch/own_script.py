"""A user's Ray Tune script: `own_script.py CACHE`, as in docs/tuning.md. Prints the last result of each trial.

Ray's own ASHA stops the second trial, which is long, after its first epoch.
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
    "train_examples": 64, "batch_size": 32, "model.widths": "4,8",
    "eval.every": 1, "eval.lam_grid": "0,1", "eval.val_examples": 32, "eval.val_steps": 1, "eval.test_examples": 32,
    "eval.attack.num_steps": 1, "eval.train_examples": 0, "eval.sentinel": "off", "data.loader": "memory",
}  # fmt: skip

OBJECTIVES = ("hypervolume", "ra@1", "train_flops")


def main(cache: str) -> None:
    ray.init(num_cpus=1, include_dashboard=False)
    tuner = tune.Tuner(
        distcond.launch.trainable("float_digits", {**SETTINGS, "data.cache_dir": cache}, OBJECTIVES),
        param_space={
            "attack.num_steps": tune.grid_search([2, 9, 1]),
            "epochs": tune.sample_from(lambda config: 200 if config["attack.num_steps"] == 9 else 2),
        },
        tune_config=tune.TuneConfig(
            metric="train_flops",  # deterministic, so that the same trial is stopped every time
            mode="min",
            reuse_actors=True,
            scheduler=ASHAScheduler(time_attr="epoch", grace_period=1, max_t=200, reduction_factor=2),
        ),
        run_config=tune.RunConfig(name="own", storage_path=str(Path.cwd() / "tune"), verbose=0),
    )
    results = tuner.fit()
    print(json.dumps([{name: result.metrics[name] for name in ("epoch", *OBJECTIVES)} for result in results]))


if __name__ == "__main__":
    main(sys.argv[1])
