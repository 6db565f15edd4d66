"""Exports pushed to a hub and loaded from one. The hub itself is not there: pushing meets a stand-in for its client."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import distcond
from distcond.errors import ConfigError
from distcond.export import main
from support.installed import needs
from support.processes import run

needs("huggingface_hub", "it is an optional extra: pip install 'distcond[export]'")


@pytest.fixture(scope="module")
def exported(small: Callable[..., Any], whole: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run and one export of it, `<folder>/weights1`."""
    found = whole(small("float", eval__dial="weights", eval__dial_grid="0,0.5,1"))
    folder = tmp_path_factory.mktemp("exports")
    main([str(found), "dial=1", "formats=safetensors", f"out={folder}"])
    return folder / "weights1"


def cached(home: Path, folder: Path) -> None:
    """A cache of the hub's client that holds USER/NAME, as a download leaves it."""
    repository, commit = home / "hub" / "models--user--name", "0123456789abcdef0123456789abcdef01234567"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    shutil.copytree(folder, repository / "snapshots" / commit)


def load_offline(home: Path, address: str) -> Any:
    code = f"""
import sys, torch, distcond
from distcond.errors import ConfigError
try:
    print(distcond.load({address!r})(torch.full((1, 3, 8, 8), 0.5)).sum().item())
except ConfigError as error:
    sys.exit(f"refused: {{error}}")
"""
    return run([sys.executable, "-c", code], env={"HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "PATH": "/usr/bin:/bin"})


def test_cached_repository_loads_offline(exported: Path, tmp_path: Path) -> None:
    cached(tmp_path, exported)
    expected = distcond.load(exported)(torch.full((1, 3, 8, 8), 0.5)).sum().item()
    for address in ("hf://user/name", "hf://user/name@main"):
        done = load_offline(tmp_path, address)
        assert done.status == 0, done.output
        assert float(done.output) == pytest.approx(expected, abs=1e-5)


def test_other_repositories_are_refused_offline(tmp_path: Path) -> None:
    done = load_offline(tmp_path, "hf://user/other")
    assert done.status == 1 and done.output.startswith("refused: hf://user/other")
    assert len(done.output.strip().splitlines()) == 1


class StandInApi:
    """A fake of the client: it copies to a folder instead of uploading."""

    folder: Path
    refuses = False

    def __init__(self, **_: Any) -> None:
        pass

    def create_repo(self, repository: str, private: bool, exist_ok: bool) -> None:
        if self.refuses:
            raise OSError("401 Client Error\nlog in first")
        assert private and exist_ok
        (self.folder / repository).mkdir(parents=True)

    def upload_folder(self, repo_id: str, folder_path: str, commit_message: str) -> None:
        shutil.copytree(folder_path, self.folder / repo_id, dirs_exist_ok=True)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> type[StandInApi]:
    StandInApi.folder, StandInApi.refuses = tmp_path / "hub", False
    monkeypatch.setattr("huggingface_hub.HfApi", StandInApi)
    return StandInApi


@pytest.fixture(scope="module")
def finished(small: Callable[..., Any], whole: Callable[..., Path]) -> Path:
    return whole(small("float", eval__dial="weights", eval__dial_grid="0,0.5,1"))


def test_push_uploads_network_and_card(finished: Path, tmp_path: Path, hub: Any, capsys: Any) -> None:
    words = ["dial=1", "formats=safetensors", f"out={tmp_path / 'out'}", "push=user/name"]
    assert main([str(finished), *words]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "hf://user/name"
    assert {"README.md", "config.json", "model.safetensors"} <= {file.name for file in hub.folder.glob("user/name/*")}


def test_refusal_of_the_hub_is_one_line(finished: Path, tmp_path: Path, hub: Any) -> None:
    hub.refuses = True
    words = ["dial=1", "formats=safetensors", f"out={tmp_path / 'out'}", "push=user/name"]
    with pytest.raises(ConfigError, match="push=user/name: 401") as refused:
        main([str(finished), *words])
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "words", [["push=name"], ["push=a/b/c"], ["push=user/name", "card=false"], ["push=user/name", "dial=0,1"]]
)
def test_push_that_cannot_be_is_refused(finished: Path, tmp_path: Path, words: list[str]) -> None:
    with pytest.raises(ConfigError, match="push="):
        main([str(finished), "dial=1", *words, f"out={tmp_path / 'out'}"])
    assert not (tmp_path / "out").exists()
