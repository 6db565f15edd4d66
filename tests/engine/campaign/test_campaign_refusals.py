"""Bad input is refused before anything is counted, by a line that says what would be right."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from distcond.engine.fit import fit
from distcond.engine.run_dir import RunDir
from distcond.engine.world import World
from distcond.errors import ConfigError
from distcond.evaluate import main, planned

REFUSED = {
    "attack=pgd-bst": "unknown attack 'pgd-bst': did you mean pgd-best?",
    "attak=fgsm": "unknown setting of an evaluation 'attak': did you mean attack?",
    "eval.attack.num_steps=0": "pgd-best would move nothing",
    "eval.attack.step_size=0": "pgd-best would move nothing; valid: more than 0, such as 2/255",
    "eval.attack.epsilon=8": "eval.attack.epsilon=8: pixels are in [0, 1]; did you mean 8/255?",
    "eval.attack.step_size=2": "eval.attack.step_size=2: pixels are in [0, 1]; did you mean 2/255?",
    "threat=whitebox": "valid: adaptive, transfer, worst",
    "noise=none": "valid: fixed, fresh, eot",
    "attack_lam=2": "attack_lam=2: must lie in [0, 1]",
    "eot_draws=1": "eot_draws=1: must be at least 2",
    "split=train": "valid: test, val",
    "checkpoint=first": "valid: best, last, last_raw",
    "launch.workers=4": "40 examples in blocks of eval.batch_size=16; valid: 1 to 3, or smaller blocks",
}


@pytest.mark.parametrize("word", REFUSED)
def test_bad_setting_names_the_valid_values(plan: Any, word: str) -> None:
    path = plan().run_path
    with pytest.raises(ConfigError) as refusal:
        main([str(path), "eval.test_examples=40", "eval.batch_size=16", word])
    assert REFUSED[word] in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_what_cannot_be_looked_at_is_refused(plan: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no run here"):
        planned([str(tmp_path / "nowhere")])
    path = plan().run_path
    with pytest.raises(ConfigError, match="threat=transfer: every attack would be at its own lam"):
        plan("threat=transfer", "eval.lam_grid=1")
    with pytest.raises(ConfigError, match=r"noise=fresh: attack=autoattack-rand averages over 20 draws by itself"):
        plan("attack=autoattack-rand", "noise=fresh")
    with pytest.raises(ConfigError, match=r"epsilon=128: pixels are in \[0, 1\]; did you mean 128/255"):
        plan("eval.attack.norm=L2", "eval.attack.epsilon=128")
    shutil.rmtree(path / "checkpoints")
    with pytest.raises(ConfigError, match="no checkpoint yet"):
        plan()


def test_attack_lam_without_code_is_refused(small: Any, tmp_path: Path) -> None:
    config = small("oat", epochs=1, train_examples=64, eval__every=0)
    with RunDir(tmp_path / "oat").begin(config):
        fit(config, World(), tmp_path / "oat")
    words = [str(tmp_path / "oat"), "eval.lam_grid=0,1", "eval.test_examples=20"]
    assert planned([*words, "threat=transfer", "attack_lam=0.2"]).sources == (0.2,)
    for threat in ("transfer", "worst", "adaptive,worst"):
        with pytest.raises(ConfigError, match=r"^attack_lam=0\.55: method\.encoding=\w+ has one code per") as refusal:
            planned([*words, f"threat={threat}", "attack_lam=0.2,0.55"])
        assert "\n" not in str(refusal.value)
