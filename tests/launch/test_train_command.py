"""Runs that cannot resume: one line, an exit status, and nothing is overwritten."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch.distributed import TCPStore

from distcond.config.command_line import run_cli
from distcond.runs.checkpoint import SCHEMA_VERSION
from distcond.train import main
from support.ports import held_port

ARGS = [
    *("float_digits", "launch=local", "data.loader=memory", "epochs=1", "train_examples=64", "batch_size=64"),
    *("model.widths=4,8", "attack.num_steps=1", "eval.lam_grid=0,1", "eval.every=0", "eval.train_examples=0"),
    *("eval.val_examples=10", "eval.val_steps=1", "eval.test_examples=10", "eval.attack.num_steps=1"),
]
#: Files that every start writes.
START_FILES = {"starts.json", "attempt.json", ".lock"}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The setting with which all tests share the converted digits."""
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn")
    return f"data.cache_dir={tmp_path_factory.mktemp('cache')}"


@pytest.fixture(scope="module")
def saved(cache: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of a run that has its last checkpoint and all rows, but no `finished.json`."""
    root = tmp_path_factory.mktemp("saved")
    assert main([*ARGS, cache, f"run_root={root}"]) == 0
    (run,) = root.iterdir()
    (run / "finished.json").unlink()
    return root


def exit_status(args: list[str]) -> int:
    with pytest.raises(SystemExit) as end:
        run_cli(lambda: main(args))
    assert isinstance(end.value.code, int)
    return end.value.code


def contents(run: Path) -> dict[Path, bytes]:
    files = {path.relative_to(run): path.read_bytes() for path in run.rglob("*") if path.is_file()}
    return {path: content for path, content in files.items() if str(path) not in START_FILES}


def truncate(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def raise_schema_version(file: Path) -> None:
    torch.save(torch.load(file, weights_only=True) | {"schema_version": SCHEMA_VERSION + 1}, file)


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("shared.pt", truncate, "shared.pt: not a readable checkpoint ("),
        ("rank-0000.pt", truncate, "rank-0000.pt: not a readable checkpoint ("),
        ("shared.pt", raise_schema_version, ": checkpoint schema 3; this distcond reads 1 and 2"),
    ],
)
def test_unreadable_checkpoint_is_refused_and_kept(
    saved: Path, cache: str, capfd: pytest.CaptureFixture[str], name: str, damage: Callable[[Path], None], message: str
) -> None:
    (run,) = saved.iterdir()
    file = run / "checkpoints" / "epoch-0001" / name
    intact = file.read_bytes()
    damage(file)
    before = contents(run)
    assert exit_status([*ARGS, cache, f"run_root={saved}"]) == 2
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith(("error:", "Traceback"))]
    assert line.startswith(f"error: {file.parent}")
    assert message in line
    after = contents(run)
    file.write_bytes(intact)  # for the next test
    assert {path: after[path] for path in before} == before
    assert {str(path.parent) for path in after.keys() - before.keys()} == {"failures"}


@pytest.fixture(params=["torchrun", "rank 0"])
def rendezvous(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """Variables of a rendezvous whose store is served by torchrun or by rank 0."""
    if request.param == "torchrun":
        store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        restarts = {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "0"}
        yield restarts | {"MASTER_PORT": str(store.port)}
    else:
        with held_port() as port:
            yield {"MASTER_PORT": str(port)}


@pytest.mark.parametrize("rank", [0, 1])
def test_incomplete_rendezvous_is_one_line(
    cache: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
    rank: int, rendezvous: dict[str, str],
) -> None:  # fmt: skip
    for name, value in {"MASTER_ADDR": "127.0.0.1", "WORLD_SIZE": "2", "RANK": str(rank), **rendezvous}.items():
        monkeypatch.setenv(name, value)
    assert exit_status([*ARGS, cache, f"run_root={tmp_path}", "launch.timeout=1"]) == 1
    lines = capfd.readouterr().err.splitlines()
    (line,) = [line for line in lines if line.startswith(("failed:", "error:", "Traceback"))]
    assert "of 2 processes" in line and "launch.timeout=1 s" in line
