"""`python -m distcond.status`."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from distcond.errors import ConfigError
from distcond.status import main


def make_run(path: Path, **files: object) -> Path:
    path.mkdir(parents=True)
    for name, value in {"config": {}, **files}.items():
        (path / f"{name}.json").write_text(json.dumps(value))
    return path


def test_exit_status_reports_failed_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path / "good", finished={"epochs": 3})
    going = {"stage": "train", "epochs": 3, "steps": 2, "epoch": 1, "step": 0, "time": time.time()}
    make_run(tmp_path / "sub" / "going", progress=going)
    assert main([str(tmp_path)]) == 0
    assert "2 runs: 1 running, 1 finished" in capsys.readouterr().out
    bad = make_run(tmp_path / "bad", starts=[{"ended": {"failed": True, "why": "no luck"}}])
    assert main([str(tmp_path), "format=json"]) == 1
    runs = json.loads(capsys.readouterr().out)
    assert [(run["name"], run["state"]) for run in runs] == [
        ("bad", "failed"), ("sub/going", "running"), ("good", "finished"),
    ]  # fmt: skip
    assert main([str(bad.parent / "good"), str(bad)]) == 1


def test_status_at_uri_equals_that_of_the_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pyarrow")
    going = {"stage": "train", "epochs": 3, "steps": 2, "epoch": 1, "step": 0, "time": time.time(), "done": 0.5}
    run = make_run(tmp_path / "runs" / "sub" / "one", progress=going, starts=[{}], attempt={"attempt": 2})
    (run / "failures").mkdir()
    (run / "failures" / "attempt-01-worker-0000.txt").write_text("Traceback\nOSError: an older one\n")
    (run / "history.jsonl").write_text('{"epoch": 1, "val": [{"lam": 0.5, "sa": 0.8, "ra": 0.4}]}\n{"epo')
    make_run(tmp_path / "runs" / "two", finished={"epochs": 3})
    told = []
    for place in (str(tmp_path / "runs"), f"file://{tmp_path}/runs"):
        assert main([place, "format=json"]) == 0
        found = json.loads(capsys.readouterr().out)
        told.append([{name: run[name] for name in run if name not in ("place", "heard")} for run in found])
    assert told[0] == told[1]
    assert [run["name"] for run in told[0]] == ["sub/one", "two"]
    assert main([f"file://{tmp_path}/runs/two"]) == 0
    assert "finished  two" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "no run here"),
        (["form=json"], "did you mean format"),
        (["format=xml"], "valid: text, json"),
        (["stale=-1"], "must be more than 0"),
        (["--watch"], "--watch: "),
        (["--wach"], "did you mean --watch"),
    ],
)
def test_invalid_options_are_refused(words: list[str], said: str, tmp_path: Path) -> None:
    if words:
        make_run(tmp_path / "run")
    with pytest.raises(ConfigError, match=said):
        main([str(tmp_path), *words])


def test_a_folder_is_required(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        main([str(tmp_path / "none")])
    with pytest.raises(ConfigError, match="no folder"):
        main(["format=json"])
    assert main([]) == 0


def test_failed_reads_do_not_end_the_watch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(tmp_path / "run")
    shown = []

    def sleep(seconds: float) -> None:
        shown.append(capsys.readouterr().out)
        if len(shown) == 1:
            (tmp_path / "run").rename(tmp_path / ".away")
        elif len(shown) == 2:
            (tmp_path / ".away").rename(tmp_path / "run")
        else:
            raise KeyboardInterrupt

    monkeypatch.setattr("distcond.status.time.sleep", sleep)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert main([str(tmp_path), "--watch"]) == 0
    assert ["no run here" in text for text in shown] == [False, True, False]
    assert all("1 runs" in text for text in shown)


def test_status_imports_no_torch_ray_pyarrow(tmp_path: Path) -> None:
    make_run(tmp_path / "run")
    heavy = "sorted({'torch', 'ray', 'pyarrow', 'numpy', 'pandas'} & set(sys.modules))"
    code = f"import sys; from distcond.status import main; main([{str(tmp_path)!r}]); print({heavy})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
