"""The runs of a sweep: a recipe with fixed and varied settings, and the run IDs that `distcond.train` will give them.

With `--tune` the sweep is one job that explores a search space: `distcond.tune` on the Ray cluster of the job's nodes.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from cluster.slurm.profile import Profile
from distcond import api
from distcond.config.command_line import check_overridden_settings, parse_args
from distcond.config.overrides import resolve
from distcond.config.recipe_choice import choose_recipe, choose_recipe_for_space
from distcond.errors import ConfigError

#: Settings that the sweep itself decides, and why.
_RESERVED = {"fresh": "a job that starts again resumes", "launch": "the profile decides it", "launch.name": "likewise"}


@dataclass(frozen=True)
class SweepRequest:
    """A sweep as the command line requests it.

    Attributes:
        args: a recipe and PATH=VALUE, as for `distcond.train`.
        grid: PATH=VALUE,VALUE,...; separated by semicolons where values contain commas.
        seeds: "0,1,2" or "0-4".
        space: a search space of `distcond.tune` to sample; "" = none.
        trials: number of samples; 0 = the space's own number.
        sample_seed: seed of the sampling.
        tune: whether `args` are those of `distcond.tune`, for one job that explores a space.
    """

    args: tuple[str, ...] = ()
    grid: tuple[str, ...] = ()
    seeds: str = ""
    space: str = ""
    trials: int = 0
    sample_seed: int = 0
    tune: bool = False


@dataclass(frozen=True)
class RunSpec:
    """A recipe and overrides, {dotted path: value}."""

    recipe: str
    overrides: dict[str, Any]

    def args(self) -> list[str]:
        """The arguments of `python -m distcond.train`."""
        return [self.recipe, *(f"{path}={format_value(value)}" for path, value in self.overrides.items())]


class Run(NamedTuple):
    """One run of a sweep.

    Attributes:
        run_id: its run ID.
        run_dir: absolute path of its directory.
        recipe: the recipe it starts from.
        overrides: {dotted path: value} over the recipe.
        tune: arguments of `distcond.tune`, if the job explores a space instead of training one network.
    """

    run_id: str
    run_dir: str
    recipe: str
    overrides: dict[str, Any]
    tune: tuple[str, ...] = ()

    @property
    def spec(self) -> RunSpec:
        """What `distcond.train` is called with, including the directory."""
        return RunSpec(self.recipe, {**self.overrides, "run_root": str(Path(self.run_dir).parent)})


def expand_runs(request: SweepRequest) -> list[RunSpec]:
    """All runs of a request in the order of the grid, the last path varying fastest.

    Raises:
        ConfigError: an invalid argument.
    """
    recipe, fixed = parse_args(request.args)
    check_overridden_settings(request.args, recipe or choose_recipe(fixed).recipe)
    axes: list[list[tuple[str, Any]]] = [_parse_axis(text) for text in request.grid]
    if request.seeds:
        axes.append([("seed", seed) for seed in _parse_seeds(request.seeds)])
    space_recipe, samples = "", list[dict[str, Any]]([{}])
    if request.space:
        space_recipe, samples = api.sample_space(request.space, request.trials, request.sample_seed)
    elif request.trials:
        raise ConfigError(f"--trials {request.trials}: needs a search space; name one with --space")
    runs = []
    for sample in samples:
        for point in itertools.product(*axes):
            overrides = {**fixed, **sample, **dict(point)}
            named_recipe = overrides.pop("recipe", recipe)
            runs.append(RunSpec(named_recipe or _choose_recipe(space_recipe, overrides), overrides))
    for path in runs[0].overrides:
        if path in _RESERVED:
            raise ConfigError(f"{path}: not a setting of a sweep: {_RESERVED[path]}")
    return runs


def assign_run_ids(specs: Iterable[RunSpec], run_root: Path) -> list[Run]:
    """The runs with their IDs and directories. Specs that resolve to the same run appear once.

    Raises:
        ConfigError: a spec is no valid config, or its data cannot be found.
    """
    runs: dict[str, Run] = {}
    for spec in specs:
        config = resolve(spec.recipe, spec.overrides)
        if api.is_uri(config.run_root):
            reason = "a sweep reads the files of its runs, so they must be on a disk that all nodes share"
            raise ConfigError(f"run_root={config.run_root}: {reason}; valid: a directory, or none")
        root = Path(config.run_root).expanduser().absolute() if config.run_root else run_root
        run_id = api.identify_run(config)
        overrides = {path: value for path, value in spec.overrides.items() if path != "run_root"}
        runs.setdefault(run_id, Run(run_id, str(root / run_id), spec.recipe, overrides))
    return list(runs.values())


def tuning_run(request: SweepRequest, sweep: Path, profile: Profile) -> Run:
    """The single run of a `--tune` request. `distcond.tune` itself checks the arguments.

    Raises:
        ConfigError: invalid arguments, or a profile that would start `distcond.tune` several times.
    """
    if request.grid or request.seeds or request.space or request.trials:
        raise ConfigError("--tune: takes the arguments of distcond.tune, not --grid, --seeds, --space or --trials")
    if profile.mode == "plain" and profile.tasks > 1:
        raise ConfigError(
            f"--tune: {profile.tasks} tasks with mode=plain would explore {profile.tasks} times; valid: ray"
        )
    if any(arg.startswith("dir=") for arg in request.args):
        raise ConfigError("dir: not an argument of --tune: the sweep directory decides it")
    run_dir = sweep / "runs" / "tune"
    if not (run_dir / "sweep.json").exists():
        # On SLURM judged by the nodes of a job, not by this machine, which may be a login node.
        nodes = profile.nodes if profile.executor == "slurm" else 0
        api.check_tune_args([*request.args, f"dir={run_dir}"], nodes, profile.cpus_per_task, profile.gpus_per_node)
    return Run("tune", str(run_dir), "tune", {}, tuple(request.args))


def format_value(value: Any) -> str:
    """A value as in PATH=VALUE on a command line."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return ",".join(format_value(item) for item in value)
    return repr(value) if isinstance(value, float) else str(value)


def _choose_recipe(space_recipe: str, overrides: dict[str, Any]) -> str:
    choice = choose_recipe_for_space(space_recipe, overrides) if space_recipe else choose_recipe(overrides)
    return choice.recipe


def _parse_axis(text: str) -> list[tuple[str, Any]]:
    path, equals, listed = text.partition("=")
    values = [value.strip() for value in listed.split(";" if ";" in listed else ",")]
    if not equals or not path or not all(values):
        raise ConfigError(f"--grid {text}: needed: PATH=VALUE,VALUE,... (PATH=A;B where values contain commas)")
    return [(path, value) for value in values]


def _parse_seeds(text: str) -> Sequence[int]:
    first, dash, last = text.partition("-")
    try:
        return range(int(first), int(last) + 1) if dash else [int(seed) for seed in text.split(",")]
    except ValueError as error:
        raise ConfigError(f"--seeds {text}: needed: 0,1,2 or 0-4") from error
