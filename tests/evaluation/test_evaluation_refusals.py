"""Bad input is refused before anything is counted, by a line that says what would be right."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from distcond.distributed.world import World
from distcond.errors import ConfigError
from distcond.evaluate import main, plan_evaluation
from distcond.models.conditional import AtLambda
from distcond.runs.run_dir import RunDir
from distcond.training.fit import fit

REFUSED = {
    "attack=pgd-bst": ("'pgd-bst'", "pgd"),
    "attak=fgsm": ("'attak'", "attack"),
    "eval.attack.num_steps=0": ("pgd", "eval.attack.num_steps"),
    "eval.attack.step_size=0": ("pgd", "eval.attack.step_size", "2/255"),
    "eval.attack.epsilon=0": ("pgd", "eval.attack.epsilon=0: ", "attack=none"),
    "eval.attack.step_size=1e-7": ("eval.attack.step_size=1e-07: ",),
    "eval.attack.epsilon=8": ("eval.attack.epsilon=8: ", "8/255"),
    "eval.attack.step_size=2": ("eval.attack.step_size=2: ", "2/255"),
    "threat=whitebox": ("whitebox", "adaptive, transfer, worst"),
    "noise=none": ("none", "fixed, fresh, eot"),
    "attack_lam=2": ("attack_lam=2: ", "[0, 1]"),
    "eot_draws=1": ("eot_draws=1: ", "2"),
    "split=train": ("train", "test, val"),
    "checkpoint=first": ("first", "best, last, last_raw"),
    "launch.workers=4": ("launch.workers=4", "eval.batch_size=16", "1 to 3"),
}


@pytest.mark.parametrize("word", REFUSED)
def test_bad_setting_names_the_valid_values(plan: Any, word: str) -> None:
    path = plan().run_path
    with pytest.raises(ConfigError) as refusal:
        main([str(path), "eval.test_examples=40", "eval.batch_size=16", word])
    assert all(part in str(refusal.value) for part in REFUSED[word]), str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_what_cannot_be_looked_at_is_refused(plan: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no run here"):
        plan_evaluation([str(tmp_path / "nowhere")])
    path = plan().run_path
    with pytest.raises(ConfigError, match=r"^threat=transfer: "):
        plan("threat=transfer", "eval.lam_grid=1")
    with pytest.raises(ConfigError, match=r"^noise=fresh: attack=autoattack-rand"):
        plan("attack=autoattack-rand", "noise=fresh")
    for attack in ("fab-t", "autoattack", "pgd,fab-t"):
        for noise in ("fresh", "eot", "fixed,fresh"):
            with pytest.raises(ConfigError, match=r"^noise=(fresh|eot): attack=(fab-t|autoattack): .*autoattack-rand"):
                plan(f"attack={attack}", f"noise={noise}")
    # At lam 0 there is no noise.
    assert plan("attack=fab-t", "noise=fresh", "eval.lam_grid=0").attacks[0].name == "fab-t"
    with pytest.raises(ConfigError, match=r"epsilon=128: pixels are in \[0, 1\]; did you mean 128/255"):
        plan("eval.attack.norm=L2", "eval.attack.epsilon=128")
    shutil.rmtree(path / "checkpoints")
    with pytest.raises(ConfigError, match="no checkpoint"):
        plan()


def test_randomness_of_any_source_is_refused(plan: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = AtLambda.forward
    monkeypatch.setattr(AtLambda, "forward", lambda self, x: forward(self, x + 0.05 * torch.rand_like(x)))
    for attack in ("fab-t", "autoattack"):
        with pytest.raises(ConfigError, match=f"attack={attack}: .*random.*autoattack-rand"):
            plan(f"attack={attack}")
    assert plan("attack=square,pgd").attacks


def test_attack_lam_without_code_is_refused(small: Any, tmp_path: Path) -> None:
    config = small("oat", epochs=1, train_examples=64, eval__every=0)
    with RunDir(tmp_path / "oat").begin(config):
        fit(config, World(), tmp_path / "oat")
    words = [str(tmp_path / "oat"), "eval.lam_grid=0,1", "eval.test_examples=20"]
    assert [source.lam for source in plan_evaluation([*words, "threat=transfer", "attack_lam=0.2"]).sources] == [0.2]
    for threat in ("transfer", "worst", "adaptive,worst"):
        with pytest.raises(ConfigError, match=r"^attack_lam=0\.55: method\.encoding=") as refusal:
            plan_evaluation([*words, f"threat={threat}", "attack_lam=0.2,0.55"])
        assert "\n" not in str(refusal.value)
