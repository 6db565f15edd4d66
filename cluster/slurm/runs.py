"""The runs of a sweep: a recipe, fixed settings and varied ones, with the run IDs that `distcond.train` will give them.

With `--tune` the sweep is one job that explores a search space: `distcond.tune` on the Ray of the job's nodes.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from cluster.slurm.profile import Profile
from distcond.config.command_line import check_overridden_settings, parse_args
from distcond.config.overrides import resolve
from distcond.config.recipe_choice import choose_recipe, choose_recipe_for_space
from distcond.config.run_id import run_id
from distcond.config.schema import Config, DataConfig
from distcond.errors import ConfigError
from distcond.storage.uri import is_uri

#: Settings of where a run lies and how it starts: the sweep's business.
_RESERVED = {"fresh": "a job that starts again resumes", "launch": "the profile decides it", "launch.name": "likewise"}


@dataclass(frozen=True)
class RunSpec:
    """One run: a recipe and {dotted path: value}."""

    recipe: str
    overrides: dict[str, Any]

    def words(self) -> list[str]:
        """The words that `python -m distcond.train` takes."""
        return [self.recipe, *(f"{path}={format_value(value)}" for path, value in self.overrides.items())]


@dataclass(frozen=True)
class SweepRequest:
    """What was asked for.

    Attributes:
        words: a recipe and PATH=VALUE, as for `distcond.train`.
        grid: PATH=VALUE,VALUE,...; where values hold commas, semicolons are between them.
        seeds: "0,1,2" or "0-4".
        space: a search space to sample, as `distcond.tune` knows it; "" = none.
        trials: how often; 0 = as often as the space says.
        sample_seed: of the sampling.
        tune: whether the words are those of `distcond.tune`, for one job that explores a space.
    """

    words: tuple[str, ...] = ()
    grid: tuple[str, ...] = ()
    seeds: str = ""
    space: str = ""
    trials: int = 0
    sample_seed: int = 0
    tune: bool = False


def expand_runs(ask: SweepRequest) -> list[RunSpec]:
    """Every run asked for, in the order of the grid, the last path varying fastest.

    Raises:
        ConfigError: a word that cannot be read.
    """
    recipe, fixed = parse_args(ask.words)
    check_overridden_settings(ask.words, recipe or choose_recipe(fixed).recipe)
    axes: list[list[tuple[str, Any]]] = [_axis(word) for word in ask.grid]
    if ask.seeds:
        axes.append([("seed", seed) for seed in _seeds(ask.seeds)])
    of_space, drawn = "", list[dict[str, Any]]([{}])
    if ask.space:
        of_space, drawn = _sampled(ask)
    elif ask.trials:
        raise ConfigError(f"--trials {ask.trials}: of what? Name a search space with --space")
    runs = []
    for point in drawn:
        for combination in itertools.product(*axes):
            overrides = {**fixed, **point, **dict(combination)}
            named_recipe = overrides.pop("recipe", recipe)
            runs.append(RunSpec(named_recipe or _fitting(of_space, overrides), overrides))
    for path in runs[0].overrides:
        if path in _RESERVED:
            raise ConfigError(f"{path}: not a setting of a sweep: {_RESERVED[path]}")
    return runs


def _fitting(of_space: str, overrides: dict[str, Any]) -> str:
    return choose_recipe_for_space(of_space, overrides).recipe if of_space else choose_recipe(overrides).recipe


def format_value(value: Any) -> str:
    """A value as a word of a command line."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return ",".join(format_value(item) for item in value)
    return repr(value) if isinstance(value, float) else str(value)


def _sampled(ask: SweepRequest) -> tuple[str, list[dict[str, Any]]]:
    """The recipe of a space, and what `distcond.tune search=random` would try with the same seed."""
    from distcond.tuning.ray_backend.sweep import count, proposing  # torch, which takes long to import
    from distcond.tuning.space import find_space
    from distcond.tuning.words import words_of

    space, words = find_space(ask.space), words_of({"trials": ask.trials, "search_seed": ask.sample_seed})
    proposer = proposing(space, words, [])
    found = (proposer.propose(number) for number in range(count(space, words)))
    return space.recipe, [dict(drawn) for drawn in found if drawn is not None]


def _axis(word: str) -> list[tuple[str, Any]]:
    path, equals, values = word.partition("=")
    found = [value.strip() for value in values.split(";" if ";" in values else ",")]
    if not equals or not path or not all(found):
        raise ConfigError(f"--grid {word}: needed: PATH=VALUE,VALUE,... (PATH=A;B where the values hold commas)")
    return [(path, value) for value in found]


def _seeds(words: str) -> Sequence[int]:
    first, dash, last = words.partition("-")
    try:
        return range(int(first), int(last) + 1) if dash else [int(word) for word in words.split(",")]
    except ValueError as error:
        raise ConfigError(f"--seeds {words}: needed: 0,1,2 or 0-4") from error


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
    def asked(self) -> RunSpec:
        """What to tell `distcond.train`, its directory included."""
        return RunSpec(self.recipe, {**self.overrides, "run_root": str(Path(self.run_dir).parent)})


def assign_run_ids(asked: Iterable[RunSpec], run_root: Path) -> list[Run]:
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
        name = run_id(*_resolve(config))
        overrides = {path: value for path, value in one.overrides.items() if path != "run_root"}
        found.setdefault(name, Run(name, str(root / name), one.recipe, overrides))
    return list(found.values())


def _resolve(config: Config) -> tuple[Config, str]:
    """The config with what its data tell, and what its result depends on besides."""
    data, content = _resolve_data(config.data)
    config = replace(config, data=data)
    if not config.init_from:
        return config, content
    from distcond.init_from.initialise import check_init_from

    origin = check_init_from(config)
    assert origin is not None
    return config, f"{content}+{origin.digest}"


@cache
def _resolve_data(data: DataConfig) -> tuple[DataConfig, str]:
    """`data` settled and the fingerprint of its content, looked at once. Nothing is converted here."""
    from distcond.data.extra import prepare_extra
    from distcond.data.prepare import infer_from_root, resolve_dataset

    data = infer_from_root(data)
    dataset = resolve_dataset(data)
    content = dataset.fingerprint(data.root)
    if data.extra:
        content = f"{content}+{prepare_extra(data.extra, data.cache_dir, dataset).fingerprint}"
    return data, content


def tuning_run(ask: SweepRequest, sweep: Path, profile: Profile) -> Run:
    """The job as a run. Its words are checked by `distcond.tune` itself.

    Raises:
        ConfigError: they are not valid, or the profile spreads the job in another way.
    """
    if ask.grid or ask.seeds or ask.space or ask.trials:
        raise ConfigError("--tune: its words are those of distcond.tune; no --grid, --seeds, --space or --trials")
    if profile.mode == "plain" and profile.tasks > 1:
        raise ConfigError(
            f"--tune: {profile.tasks} tasks with mode=plain would explore {profile.tasks} times; valid: ray"
        )
    if any(word.startswith("dir=") for word in ask.words):
        raise ConfigError("dir: not a word of --tune: the sweep directory decides it")
    from distcond.launch.capacity import Capacity
    from distcond.tune import asked
    from distcond.tuning.ray_backend.sweep import planned

    run_dir = sweep / "runs" / "tune"
    if not (run_dir / "sweep.json").exists():
        node = Capacity(profile.cpus_per_task, profile.gpus_per_node, "a job of this profile")
        # What this machine, a login node, has says nothing.
        planned(*asked([*ask.words, f"dir={run_dir}"]), [node] * profile.nodes if profile.executor == "slurm" else [])
    return Run("tune", str(run_dir), "tune", {}, tuple(ask.words))
