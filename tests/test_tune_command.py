"""The command that explores: what it says and refuses without running anything."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from distcond.errors import ConfigError
from distcond.tune import main
from distcond.tuning.options import NAMES, read_options
from distcond.tuning.space import find_space
from distcond.tuning.sweep_dir import SweepDir
from support import sweeps


def test_help_names_every_word_and_list_every_space(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == main(["--list"]) == main([]) == 0
    said = capsys.readouterr().out
    assert all(f"  {name}=" in said for name in NAMES)
    assert "noise_scale " in said and "--resume" in said and "16 trials" in said


def test_show_says_what_would_be_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["noise_scale", "budget=small", "scheduler=asha", "grace=2", f"dir={tmp_path / 'sweep'}", "--show"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "16 trials of float_digits, 8 epochs, search=random scheduler=asha" in said
    assert said.count("method.alpha") == 3 and not (tmp_path / "sweep").exists()


def test_resuming_a_sweep_takes_no_other_words(tmp_path: Path) -> None:
    sweep, space = SweepDir(tmp_path / "sweep"), find_space("width", small=True)
    words = read_options({**space.options, "budget": "small", "dir": str(tmp_path / "sweep")})
    sweep.begin(space, words)
    assert sweep.request() == (space, words)
    assert main(["width", "budget=small", f"dir={tmp_path / 'sweep'}", "--show"]) == 0
    with pytest.raises(ConfigError, match=f"^dir={tmp_path}"):
        main(["width", "budget=small", "epochs=9", f"dir={tmp_path / 'sweep'}", "--show"])


@pytest.mark.parametrize("argv", [["--resume", "{}"], ["width", "budget=small", "dir={}"], ["--confirm", "{}"]])
def test_sweep_others_may_write_is_not_resumed(
    argv: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep, space = SweepDir(tmp_path / "sweep"), find_space("width", small=True)
    sweep.begin(space, read_options({**space.options, "budget": "small", "dir": str(sweep.path)}))
    sweep.path.chmod(0o777)
    monkeypatch.setenv("DISTCOND_TRUST", "false")
    argv = [arg.format(sweep.path) for arg in argv]
    with pytest.raises(ConfigError, match=rf"^{sweep.path}: .*trust=true"):
        main(argv if argv[0] == "--confirm" else [*argv, "--show"])
    if argv[0] != "--confirm":
        assert main([*argv, "--show", "trust=true"]) == 0


def test_older_sweep_is_refused_with_its_version(tmp_path: Path) -> None:
    (tmp_path / "sweep.json").write_text(json.dumps({"schema_version": 1, "words": {}}))
    for argv in (["--resume", str(tmp_path)], ["width", "budget=small", f"dir={tmp_path}"]):
        with pytest.raises(ConfigError, match="3f95480"):
            main([*argv, "--show"])


@pytest.mark.parametrize("name", ["config.json", "tuner.pkl", "experiment_state-2026.json"])
def test_directory_of_something_else_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("{}")
    with pytest.raises(ConfigError, match=f"holds something else .{name}"):
        main(["width", "budget=small", f"dir={tmp_path}", "--show"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["width", "density"], "2 spaces"),
        (["--resume", "nowhere"], "no sweep here"),
        (["--resume", "nowhere", "epochs=1"], "epochs=1: "),
        (["--confirm", "nowhere", "seeds=0"], "valid with --confirm"),
        (["--confirm", "nowhere", "trials=all"], "trials=all: "),
        (["--confirm", "nowhere"], "no sweep here"),
        (["width", "--sho"], "--sho"),
        (["width", "launch.workers=900", "--show"], "launch.workers=900: "),
    ],
)
def test_invalid_words_are_refused_in_a_line(words: list[str], said: str, monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=said) as error:
        main(words)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("words", "refused"),
    [
        (("launch.workers=500",), "launch.workers=500: "),
        (("concurrent=400",), "concurrent=400: "),
        (("launch.device=cuda",), "launch.device=cuda: "),
        (("objective=ra@0.3",), "objective=ra@0.3: .*eval.lam_grid"),
        (("scheduler=asha", "grace=3"), "grace=3: .*epochs=2"),
        (("scheduler=asha", "eval.every=2"), "grace=1: .*eval.every=2"),
        (("launch=local",), "launch=local: "),
        (("optim.lrr=1",), "unknown setting 'optim.lrr'"),
        (("search=bayes",), "unknown value for search 'bayes'.*nsga2"),
        (("scheduler=ashaa",), "unknown value for scheduler 'ashaa'.*median"),
        (("fresh=true",), "fresh=true: "),
        (("scheduler=pbt", "search=grid"), "scheduler=pbt search=grid: "),
    ],
)
def test_invalid_sweep_is_refused_before_ray_starts(
    words: tuple[str, ...], refused: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("distcond.tuning.ray_backend.tuner.ray_cluster", lambda: pytest.fail("Ray was to start"))
    with pytest.raises(ConfigError, match=f"^{refused}") as error:
        main([*sweeps.small(tmp_path, 2), *words])
    assert "\n" not in str(error.value)
    assert not (tmp_path / "sweep" / "sweep.json").exists()


def test_the_command_speaks_before_it_loads() -> None:
    words = [sys.executable, "-X", "importtime", "-m", "distcond.tune", "no_such_space"]
    said = subprocess.run(words, capture_output=True, text=True, timeout=200).stderr
    assert "no_such_space" in said  # refused, once everything is there
    assert 0 < said.index("reading the search space") < said.index(" torch\n")
