"""Unusable paths are reported with their setting, and runs of other users can be read."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from distcond import calibrate, evaluate, report, train
from distcond.config.command_line import run_cli
from support.unprivileged import unprivileged

WORDS = [
    *("float_digits", "launch=local", "data.loader=memory", "epochs=1", "train_examples=64", "batch_size=64"),
    *("model.widths=4,8", "attack.num_steps=1", "eval.lam_grid=0,1", "eval.every=0", "eval.train_examples=0"),
    *("eval.val_examples=10", "eval.val_steps=1", "eval.test_examples=10", "eval.attack.num_steps=1"),
    "eval.sentinel=off",
]
Main = Callable[[list[str]], int]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shared cache with the converted digits."""
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn")
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def read_only_run(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A finished run without write permission."""
    root = tmp_path_factory.mktemp("read_only_run")
    assert train.main([*WORDS, f"data.cache_dir={cache}", f"run_root={root}"]) == 0
    (run,) = root.iterdir()
    with without_permissions(root, 0o555):
        yield run


@contextmanager
def without_permissions(path: Path, mode: int) -> Iterator[None]:
    """`path` and all folders below it without some permissions."""
    folders = [Path(place) for place, _, _ in os.walk(path)] or [path]
    for folder in folders:
        folder.chmod(mode if folder.is_dir() else mode & 0o666)
    try:
        with unprivileged():
            yield
    finally:
        for folder in folders:
            folder.chmod(0o755)


def refusal(main: Main, words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The error line of a refused command."""
    with pytest.raises(SystemExit) as end:
        run_cli(lambda: main(words))
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert (end.value.code, len(lines)) == (2, 1), lines
    return lines[0]


@pytest.mark.parametrize("kind", ["closed", "file", "no home", "below a closed home"])
def test_unusable_cache_names_its_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    place, words = tmp_path / "place", [*WORDS, f"run_root={tmp_path / 'runs'}"]
    if kind == "file":
        place.write_text("")
    else:
        place.mkdir()
    if kind == "no home":
        monkeypatch.delenv("HOME")
        monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)  # a user without a passwd entry
    elif kind == "below a closed home":
        monkeypatch.setenv("HOME", str(place))
    else:
        words.append(f"data.cache_dir={place}")
    with without_permissions(place, 0o555):
        assert "data.cache_dir=" in refusal(train.main, words, capsys)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("recipe", [["recipe=float_digits"], []])
def test_unreadable_data_names_its_root(
    tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str], recipe: list[str]
) -> None:
    root = tmp_path / "data"
    (root / "train" / "a").mkdir(parents=True)
    words = ["data=image_folder", f"data.root={root}", "launch=local", f"data.cache_dir={cache}", *recipe]
    with without_permissions(root, 0o000):
        assert f"data.root={root}" in refusal(train.main, words, capsys)


@pytest.mark.parametrize("inside", [True, False])
def test_unreadable_weights_name_init_from(
    tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str], inside: bool
) -> None:
    file = tmp_path / "folder" / "weights.pth"
    file.parent.mkdir()
    file.write_bytes(b"")
    with without_permissions(file.parent, 0o000) if inside else closed_file(file):
        found = refusal(train.main, [*WORDS, f"data.cache_dir={cache}", f"init_from={file}"], capsys)
    assert f"init_from={file}: cannot use {file} (Permission denied)" in found


@contextmanager
def closed_file(file: Path) -> Iterator[None]:
    file.chmod(0)
    with unprivileged():
        yield


def test_unwritable_run_root_names_its_setting(tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with without_permissions(tmp_path, 0o555):
        words = [*WORDS, f"data.cache_dir={cache}", f"run_root={tmp_path / 'runs'}"]
        assert "run_root" in refusal(train.main, words, capsys)


@pytest.mark.parametrize("word", ["png", "html"])
@pytest.mark.parametrize("target", ["missing/page", "."])
def test_report_needs_a_writable_folder(
    read_only_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    word: str,
    target: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert f"{word}={tmp_path / target}" in refusal(
        report.main, [str(read_only_run), f"{word}={tmp_path / target}"], capsys
    )
    assert not list(tmp_path.iterdir())


def test_read_only_run_is_evaluated_reported_and_calibrated(
    read_only_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(read_only_run.rglob("*"))
    assert evaluate.main([str(read_only_run), "attack=fgsm", "launch.workers=1"]) == 0
    kept = tmp_path / "evaluations" / read_only_run.name
    assert list((kept / "results").iterdir()) and list((kept / "outcomes").iterdir())
    assert report.main([str(read_only_run)]) == 0
    assert (tmp_path / "curves.png").exists() or "matplotlib" in capsys.readouterr().err
    assert report.main([str(kept), f"png={tmp_path / 'own.png'}"]) == 0
    assert calibrate.main([str(read_only_run), "sa=1%", "resolution=1", "confidence=0.5", "launch.workers=1"]) == 0
    assert sorted(read_only_run.rglob("*")) == before


def test_finished_read_only_run_is_shown(read_only_run: Path, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main([*WORDS, f"data.cache_dir={cache}", f"run_root={read_only_run.parent}"]) == 0
    assert "already finished" in capsys.readouterr().out


def test_read_only_everywhere_is_refused(
    read_only_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with without_permissions(tmp_path, 0o555):
        found = refusal(evaluate.main, [str(read_only_run), "attack=fgsm"], capsys)
    assert str(read_only_run) in found and "evaluations" in found
