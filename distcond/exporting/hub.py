"""Exports on the Hugging Face hub, by huggingface_hub where it is installed. Offline, nothing asks the network."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Any

from distcond.errors import ConfigError
from distcond.exporting.folder import CONFIG_FILE, WEIGHTS_FILE

SCHEME = "hf://"
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


def check_repository(name: str) -> str:
    """`name` if it could be that of a repository, USER/NAME.

    Raises:
        ConfigError: it could not, or huggingface_hub is not installed.
    """
    if not _REPOSITORY.fullmatch(name):
        raise ConfigError(f"push={name}: needed USER/NAME of a repository on the hub")
    _library()
    return name


def push(folder: Path, repository: str, private: bool) -> str:
    """Upload an export; a repository that does not exist is made. Returns its address.

    Raises:
        ConfigError: offline, not logged in, or the hub refuses.
    """
    hub = _library()
    try:
        api = hub.HfApi(library_name="distcond")
        api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=str(folder), commit_message=f"Export {folder.name}")
    except Exception as error:  # of the network, of authentication, of the hub
        raise ConfigError(f"push={repository}: {_first_line(error)}; the export stays in {folder}") from error
    return f"{SCHEME}{repository}"


def pull(address: str) -> Path:
    """The folder of `hf://USER/NAME` or `hf://USER/NAME@REVISION`, from the cache where it is there.

    Raises:
        ConfigError: no such repository or revision, or offline and not in the cache.
    """
    repository, _, revision = address.removeprefix(SCHEME).partition("@")
    if not _REPOSITORY.fullmatch(repository):
        raise ConfigError(f"{address}: needed {SCHEME}USER/NAME or {SCHEME}USER/NAME@REVISION")
    try:
        return Path(
            _library().snapshot_download(
                repository, revision=revision or None, allow_patterns=[WEIGHTS_FILE, CONFIG_FILE]
            )
        )
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"{address}: {_first_line(error)}") from error


def _library() -> Any:
    try:
        return import_module("huggingface_hub")
    except ImportError as error:
        raise ConfigError("huggingface_hub is not installed: pip install huggingface_hub") from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).split("\n")), "").strip() or type(error).__name__
