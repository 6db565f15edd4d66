"""Every run's name before it exists: the same that `distcond.train` will give it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from cluster.slurm.grid import Asked
from distcond.config.identity import run_id
from distcond.config.overrides import resolve
from distcond.config.schema import Config, DataConfig
from distcond.errors import ConfigError
from distcond.storage.uri import is_uri


class Run(NamedTuple):
    """One run of a sweep.

    Attributes:
        run_id: its name.
        run_dir: absolute.
        recipe: what it starts from.
        overrides: {dotted path: value} over the recipe.
        tune: words of `distcond.tune`, where the job explores a space instead of training one network.
    """

    run_id: str
    run_dir: str
    recipe: str
    overrides: dict[str, Any]
    tune: tuple[str, ...] = ()

    @property
    def asked(self) -> Asked:
        """What to tell `distcond.train`, its directory included."""
        return Asked(self.recipe, {**self.overrides, "run_root": str(Path(self.run_dir).parent)})


def identified(asked: Iterable[Asked], run_root: Path) -> list[Run]:
    """The runs with their names, each once: two combinations may come to the same.

    Raises:
        ConfigError: one of them is no valid config, or its data cannot be found.
    """
    found: dict[str, Run] = {}
    for one in asked:
        config = resolve(one.recipe, one.overrides)
        if is_uri(config.run_root):
            files = "a sweep is watched by its runs' files, on the disk that all nodes share"
            raise ConfigError(f"run_root={config.run_root}: {files}; valid: a directory, or none")
        root = Path(config.run_root).expanduser().absolute() if config.run_root else run_root
        name = run_id(*_settled(config))
        overrides = {path: value for path, value in one.overrides.items() if path != "run_root"}
        found.setdefault(name, Run(name, str(root / name), one.recipe, overrides))
    return list(found.values())


def _settled(config: Config) -> tuple[Config, str]:
    """The config with what its data tell, and what its result depends on besides."""
    data, content = _data(config.data)
    config = replace(config, data=data)
    if not config.init_from:
        return config, content
    from distcond.engine.starting.init_from import check

    origin = check(config)
    assert origin is not None
    return config, f"{content}+{origin.digest}"


@cache
def _data(data: DataConfig) -> tuple[DataConfig, str]:
    """`data` settled and the fingerprint of its content, looked at once. Nothing is converted here."""
    from distcond.data.described import described, settled
    from distcond.data.extra import prepare_extra

    data = settled(data)
    dataset = described(data)
    content = dataset.fingerprint(data.root)
    if data.extra:
        content = f"{content}+{prepare_extra(data.extra, data.cache_dir, dataset).fingerprint}"
    return data, content
