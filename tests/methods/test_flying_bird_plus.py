"""Flying Bird+: the history of a run changes its density; runs without that history are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from distcond.config.schema import Config
from distcond.distributed.world import World
from distcond.errors import ConfigError
from distcond.methods.flying_bird import PLUS_METHOD
from distcond.runs.build import build_model
from distcond.runs.run_dir import RunDir
from distcond.training.fit import fit


@pytest.fixture
def config(tiny: Any) -> Any:
    def made(**settings: Any) -> Config:
        fast = {
            "attack__num_steps": 1,
            "precision__train": "float32",
            "train_examples": 128,
            "eval__every": 1,
            "eval__val_examples": 60,
            "eval__val_steps": 1,
            "eval__test_examples": 20,
            "eval__attack__num_steps": 1,
            "epochs": 8,
            "method__update_every": 1,
            "method__window": 1,
        }
        found: Config = tiny("flying_bird_plus", **fast | settings)
        return found

    return made


def test_a_run_feeds_its_history_to_the_masks(config: Any, tmp_path: Path) -> None:
    """What fired follows from the numbers that the run wrote down, and so does its density."""
    chosen = config(method__extra_grow=0.5)
    with RunDir(tmp_path).begin(chosen):
        fit(chosen, World(), tmp_path)
    history = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    drops, grows, densities = 0, 0, {0.2}
    for epoch, record in enumerate(history):
        if epoch >= 4:
            before, latest = history[epoch - 2], history[epoch - 1]
            gaps = [at["train_ra"] - at["val"][0]["ra"] for at in (before, latest)]
            losses = [at["val"][0]["ra_loss"] for at in (before, latest)]
            # Two updates an epoch; none after the very last step.
            updates = 2 if epoch < 7 else 1
            drops += updates * (gaps[1] > gaps[0])
            grows += updates * (losses[1] >= losses[0])
        assert (record["sparsity"]["drops_more"], record["sparsity"]["grows_more"]) == (drops, grows)
        densities.add(round(record["sparsity"]["density"], 6))
    assert drops + grows > 0
    assert len(densities) > 2


def test_the_settings_reach_the_trend(config: Any) -> None:
    chosen = config(method__window=3, method__threshold=0.7, method__adapt_from=0.25, method__extra_drop=0.2)
    trend = PLUS_METHOD.sparsity(chosen, build_model(chosen)).trend
    assert (trend.window, trend.threshold, trend.start, trend.extra_drop, trend.extra_grow) == (3, 0.7, 0.25, 0.2, 0.05)


@pytest.mark.parametrize("every", [0, 2])
def test_runs_without_validation_each_epoch_are_refused(config: Any, every: int) -> None:
    chosen = config(eval__every=every)
    with pytest.raises(ConfigError, match=f"eval.every={every}: .*eval.every=1"):
        PLUS_METHOD.sparsity(chosen, build_model(chosen))


def test_standard_training_is_refused(config: Any) -> None:
    chosen = config(sampler__lam=0)
    with pytest.raises(ConfigError, match=r"sampler.lam=0: "):
        PLUS_METHOD.sparsity(chosen, build_model(chosen))
