"""What of a sweep's options can be refused before Ray is imported."""

from __future__ import annotations

import importlib.util

from distcond.config.schema import Config
from distcond.errors import ConfigError
from distcond.registry import describe_unknown
from distcond.tuning.options import SweepOptions
from distcond.tuning.points import draw_points, takes_trial
from distcond.tuning.space import Space, imported

OWN_SEARCHERS = ("random", "grid", "tpe", "nsga2")
OWN_SCHEDULERS = ("none", "asha", "pbt")

#: Ray Tune's own names.
RAY_SEARCHERS = ("ax", "bayesopt", "bohb", "hebo", "hyperopt", "nevergrad", "optuna", "zoopt")
RAY_SCHEDULERS = ("async_hyperband", "hb_bohb", "hyperband", "median", "pb2")

#: Settings that still act on a run that has begun: others shape its network or its start.
LIVE = (
    "optim.lr", "optim.momentum", "optim.weight_decay", "optim.nesterov", "optim.schedule", "optim.milestones",
    "optim.drop_factor", "optim.warmup", "optim.awp_gamma", "attack.", "sampler.", "data.cutmix", "data.augment",
    "label_smoothing", "method.beta",
)  # fmt: skip


def check_names(options: SweepOptions) -> None:
    """Refuse an unknown searcher or scheduler; a dotted name is imported later.

    Raises:
        ConfigError: with the valid names.
    """
    known = {"search": (*OWN_SEARCHERS, *RAY_SEARCHERS), "scheduler": (*OWN_SCHEDULERS, *RAY_SCHEDULERS)}
    for option, names in known.items():
        name = getattr(options, option)
        if "." not in name and ":" not in name and name not in names:
            raise ConfigError(describe_unknown(f"value for {option}", name, (*names, "module.Class")))


def check_search(options: SweepOptions, space: Space) -> None:
    """Refuse points that are no runs, a function of another search, and a missing Optuna.

    Raises:
        ConfigError: with what would be valid.
    """
    if options.search in ("random", "grid"):
        draw_points(space, options)
    if options.search not in ("tpe", "nsga2"):
        return
    if importlib.util.find_spec("optuna") is None:
        raise ConfigError(f"search={options.search}: needs Optuna: pip install 'distcond[tune]'; or search=random")
    if space.function and not takes_trial(imported(space.function)):
        raise ConfigError(f"search={options.search}: {space.name} takes a generator; valid: random")


def check_schedule(options: SweepOptions, space: Space, config: Config) -> None:
    """Refuse a schedule that never compares, compares at epochs without validation, or changes what no longer acts.

    Args:
        options: of the sweep.
        space: what varies.
        config: of a trial with nothing drawn.

    Raises:
        ConfigError: with what would be valid.
    """
    scheduler, every = options.scheduler, config.eval.every
    if scheduler in ("none", "median", "hyperband") or "." in scheduler or ":" in scheduler:
        return
    name, step = ("interval", options.interval) if scheduler in ("pbt", "pb2") else ("grace", options.grace)
    if step >= config.epochs:
        raise ConfigError(f"{name}={step}: not below epochs={config.epochs}, so {scheduler} never compares")
    if not every or step % every:
        raise ConfigError(
            f"{name}={step}: no validation then, eval.every={every}; valid: multiples of it, or eval.every=1"
        )
    if scheduler in ("pbt", "pb2"):
        check_live(space)


def check_live(space: Space) -> None:
    """Refuse a space whose changes in mid-run would do nothing.

    Raises:
        ConfigError: one of its settings acts only at the start of a run, or has a condition.
    """
    if not space.axes:
        raise ConfigError(f"scheduler=pbt: {space.name} is a function, of which nothing can be changed; valid: asha")
    for axis in space.axes:
        if not any(axis.path == name or (name.endswith(".") and axis.path.startswith(name)) for name in LIVE):
            what = f"{axis.path} acts at the start of a run only, so changing it later does nothing"
            raise ConfigError(f"scheduler=pbt: {what}; valid: {', '.join(LIVE)}")
        if axis.when:
            raise ConfigError(f"scheduler=pbt: space {axis.path} has a condition; valid: axes without when")
