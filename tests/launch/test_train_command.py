"""What the command says of a run that cannot go on: one line and an exit status, and nothing is overwritten."""

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

WORDS = [
    *("float_digits", "launch=local", "data.loader=memory", "epochs=1", "train_examples=64", "batch_size=64"),
    *("model.widths=4,8", "attack.num_steps=1", "eval.lam_grid=0,1", "eval.every=0", "eval.train_examples=0"),
    *("eval.val_examples=10", "eval.val_steps=1", "eval.test_examples=10", "eval.attack.num_steps=1"),
]
#: What every start writes down about itself.
OF_A_START = {"starts.json", "attempt.json", ".lock"}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The setting by which all share the converted digits."""
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn")
    return f"data.cache_dir={tmp_path_factory.mktemp('cache')}"


@pytest.fixture(scope="module")
def saved(cache: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a run lies that has its last checkpoint and all its rows, but not the word that it is finished."""
    root = tmp_path_factory.mktemp("saved")
    assert main([*WORDS, cache, f"run_root={root}"]) == 0
    (run,) = root.iterdir()
    (run / "finished.json").unlink()
    return root


def exit_status(words: list[str]) -> int:
    with pytest.raises(SystemExit) as end:
        run_cli(lambda: main(words))
    assert isinstance(end.value.code, int)
    return end.value.code


def contents(run: Path) -> dict[Path, bytes]:
    files = {path.relative_to(run): path.read_bytes() for path in run.rglob("*") if path.is_file()}
    return {path: content for path, content in files.items() if str(path) not in OF_A_START}


def cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def of_a_newer_schema(file: Path) -> None:
    torch.save(torch.load(file, weights_only=True) | {"schema_version": SCHEMA_VERSION + 1}, file)


@pytest.mark.parametrize(
    ("name", "harm", "says"),
    [
        ("shared.pt", cut, "shared.pt: not a readable checkpoint ("),
        ("rank-0000.pt", cut, "rank-0000.pt: not a readable checkpoint ("),
        ("shared.pt", of_a_newer_schema, ": checkpoint schema 3; this distcond reads 1 and 2"),
    ],
)
def test_unreadable_checkpoint_is_refused_and_nothing_changes(
    saved: Path, cache: str, capfd: pytest.CaptureFixture[str], name: str, harm: Callable[[Path], None], says: str
) -> None:
    (run,) = saved.iterdir()
    file = run / "checkpoints" / "epoch-0001" / name
    whole = file.read_bytes()
    harm(file)
    before = contents(run)
    assert exit_status([*WORDS, cache, f"run_root={saved}"]) == 2
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith(("error:", "Traceback"))]
    assert line.startswith(f"error: {file.parent}")
    assert says in line
    after = contents(run)
    file.write_bytes(whole)  # for the next
    assert {path: after[path] for path in before} == before
    assert {str(path.parent) for path in after.keys() - before.keys()} == {"failures"}


@pytest.fixture(params=["torchrun", "the first process"])
def meeting(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """Where processes are to meet, by who keeps the store there."""
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
    rank: int, meeting: dict[str, str],
) -> None:  # fmt: skip
    for name, value in {"MASTER_ADDR": "127.0.0.1", "WORLD_SIZE": "2", "RANK": str(rank), **meeting}.items():
        monkeypatch.setenv(name, value)
    assert exit_status([*WORDS, cache, f"run_root={tmp_path}", "launch.timeout=1"]) == 1
    lines = capfd.readouterr().err.splitlines()
    (line,) = [line for line in lines if line.startswith(("failed:", "error:", "Traceback"))]
    assert line.startswith("failed: 2 processes ") and "launch.timeout=1 s" in line
