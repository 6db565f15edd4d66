"""Lay an evaluation out and refuse what cannot be counted, before anything is."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path

import numpy as np

from distcond.attacks.randomness import outputs_differ, random_refusal
from distcond.config.schema import AttackConfig, Config
from distcond.data.loader import to_float
from distcond.data.prepare import class_names, open_source, prepare_data, resolve_dataset
from distcond.data.sources import Source
from distcond.data.splits import is_sorted_by_class, split_digest, stratified_order
from distcond.distributed.world import choose_device
from distcond.errors import ConfigError
from distcond.evaluation.layout import Blocks
from distcond.evaluation.plan import EvalPlan
from distcond.evaluation.spec import EvalSpec, attacks_of, strength
from distcond.models.conditional import ConditionalModel
from distcond.models.dial import network_at
from distcond.models.weights_digest import weights_digest
from distcond.operating_point import OperatingPoint
from distcond.path_errors import can_write
from distcond.run_layout import OUTCOMES_DIR, RESULTS_DIR
from distcond.runs.even_dial import read_even
from distcond.runs.grid import operating_points
from distcond.runs.interpolation import Interpolation
from distcond.runs.load_run import epoch_at, load
from distcond.runs.robust_end import with_robust_end
from distcond.runs.run_dir import RunDir

_log = logging.getLogger(__name__)

#: What an evaluation writes below a run's directory.
_WRITTEN = (OUTCOMES_DIR, RESULTS_DIR)

#: Images about which a network is asked whether it answers at random.
_ASKED_ABOUT = 4


def make_plan(run: RunDir, config: Config, spec: EvalSpec, given: frozenset[str], mixed: bool = False) -> EvalPlan:
    """The plan of an evaluation.

    Args:
        run: the run to look at.
        config: its config, with what the command changed.
        spec: what to count.
        given: the settings of `eval.attack` that the command named.
        mixed: a few blocks are to stand for all, even where classes lie one behind the other and all are counted.

    Raises:
        ConfigError: no checkpoint, no images, or settings that do not fit the network or each other.
    """
    spec = replace(spec, attack=spec.attack or (config.eval.attack_name,))
    model = load(run.path, spec.checkpoint, data=config.data)
    weights = weights_digest(model)
    config = with_robust_end(run.path, config, spec.checkpoint, weights)
    even = read_even(run.path, config.eval, spec.checkpoint, weights)
    points = tuple(dict.fromkeys(operating_points(config, even)))
    everywhere = {*points, *map(OperatingPoint, spec.attack_lam)}
    strengths = _strengths(spec, config, model, everywhere, given)
    files = prepare_data(config.data)
    source = open_source(files, spec.split, "cpu", config.data.threads)
    wanted = config.eval.test_examples if spec.split == "test" else config.eval.val_examples
    _check_sources(spec, points, model)
    keep_path = _keep_path(run.path)
    between = _settle_between(run, config, spec, points, keep_path) if model.two_networks else {}
    _check_random(spec, model, everywhere, source)
    return EvalPlan(
        run_path=run.path,
        keep_path=keep_path,
        config=config,
        spec=spec,
        strengths=strengths,
        epoch=epoch_at(run, spec.checkpoint),
        points=networks_at(points, model, config),
        width_mults=model.width_mults,
        layout=_layout(source, wanted, config, mixed),
        noisy=model.noise_size > 0,
        weights=weights,
        fingerprint=files.fingerprint,
        split_images=split_digest(source),
        even=even,
        mix=tuple(model.mix or ()),
        between=between,
    )


def sweep_plan(
    config: Config,
    model: ConditionalModel,
    source: Source,
    *,
    attack: AttackConfig | None = None,
    budget: int = 0,
    points: Iterable[OperatingPoint] | None = None,
    run_path: Path = Path(),
    split: str = "test",
    epoch: int = 0,
) -> EvalPlan:
    """The plan of a sweep by a run itself: one attack that knows lam, at one draw of the noise, which it knows too.

    Args:
        config: the run.
        model: its network, in eval mode.
        source: the split.
        attack: how strong the attack is; None = `eval.attack`.
        budget: examples of the split; 0 = all.
        points: places on the dial; None = those of the run.
        run_path, split, epoch: what the network and the images are.
    """
    found = operating_points(config) if points is None else points
    name = config.eval.attack_name
    return EvalPlan(
        run_path=run_path,
        keep_path=run_path,
        config=config,
        spec=EvalSpec(attack=(name,), split=split),
        strengths={name: attack or config.eval.attack},
        epoch=epoch,
        points=networks_at(dict.fromkeys(found), model, config),
        width_mults=model.width_mults,
        layout=Blocks.of(source, budget, config.eval.batch_size),
        noisy=model.noise_size > 0,
    )


def networks_at(
    places: Iterable[OperatingPoint], model: ConditionalModel, config: Config
) -> tuple[OperatingPoint, ...]:
    """The networks at some places of the dial: each at every width, with the draw of the noise that is evaluated."""
    noise_seed = config.eval.noise_seed if model.noise_size > 0 else 0
    of_width = ((place, width) for place in places for width in model.width_mults)
    return tuple(place._replace(width=width, noise_seed=noise_seed) for place, width in of_width)


def _strengths(
    spec: EvalSpec, config: Config, model: ConditionalModel, points: Iterable[OperatingPoint], given: frozenset[str]
) -> dict[str, AttackConfig]:
    """What each attack uses, once noise and classes are known to fit."""
    _check_noise(spec, model.noise_size > 0, any(point.robust for point in points))
    classes = resolve_dataset(config.data).num_classes
    _check_classes(model, config)
    return {a.name: strength(a, config.eval.attack, given, classes) for a in attacks_of(spec)}


def _keep_path(run_path: Path) -> Path:
    """The run's directory or, where that cannot be written, one of its name in the present one.

    Raises:
        ConfigError: neither can be written.
    """
    if all(map(can_write, (run_path, *(path for name in _WRITTEN if (path := run_path / name).exists())))):
        return run_path
    aside = Path.cwd() / "evaluations" / run_path.name
    try:
        aside.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        where = f"{run_path}: cannot be written, nor can {aside} ({error.strerror})"
        raise ConfigError(f"{where}; start the command in a directory in which outcomes can be kept") from error
    _log.info("%s cannot be written: outcomes and rows are kept in %s", run_path, aside)
    return aside


def _check_classes(model: ConditionalModel, config: Config) -> None:
    here = class_names(config.data)
    if here and model.classes and here != model.classes:
        number = next(n for n, pair in enumerate(zip_longest(model.classes, here)) if pair[0] != pair[1])
        theirs, ours = ((*names, "none")[min(number, len(names))] for names in (model.classes, here))
        both = f"class {number} is {ours!r} there and {theirs!r} in the run"
        raise ConfigError(f"data.root={config.data.root}: {both}; give the same classes")


def _layout(source: Source, wanted: int, config: Config, mixed: bool) -> Blocks:
    layout = Blocks.of(source, wanted, config.eval.batch_size)
    if layout.rows is None and mixed and is_sorted_by_class(source.labels):
        return replace(layout, rows=stratified_order(source.labels))
    return layout


def _check_sources(spec: EvalSpec, points: tuple[OperatingPoint, ...], model: ConditionalModel) -> None:
    if model.encode is not None and {"transfer", "worst"} & set(spec.threat):
        for source in spec.attack_lam:
            model.encode.check(source, "attack_lam")
    if "transfer" in spec.threat and not spec.attack_lam and any(point.blend for point in points):
        raise ConfigError(
            "threat=transfer: along a dial of blends say from which lam: attack_lam=0,1; valid too: worst"
        )
    sources = [*map(OperatingPoint, spec.attack_lam)] or points
    elsewhere = any(source != point for source in sources for point in points)
    for threat in ("transfer", "worst"):
        if threat in spec.threat and not elsewhere:
            raise ConfigError(
                f"threat={threat}: every attack would be at its own lam; add to eval.lam_grid or attack_lam"
            )


def _settle_between(
    run: RunDir, config: Config, spec: EvalSpec, points: Iterable[OperatingPoint], keep_path: Path
) -> dict[str, str | int]:
    """Have the networks between two runs while one process looks: workers find their statistics. `Plan.between`.

    Raises:
        ConfigError: as `distcond.dial.at`.
    """
    model = load(run.path, spec.checkpoint, choose_device(config.launch.device), config.data)
    assert isinstance(model.interpolate, Interpolation)
    model.interpolate.keep_path = keep_path
    for point in points:
        network_at(model, point)
    return model.interpolate.procedure


def _check_random(spec: EvalSpec, model: ConditionalModel, points: Iterable[OperatingPoint], source: Source) -> None:
    """Raise ConfigError where an attack that a lucky draw ends is to be made on a network that answers at random."""
    refused = [attack.name for attack in attacks_of(spec) if attack.refuses_random]
    if not refused or not len(source):
        return
    ((raw, y),) = source.read([np.arange(min(_ASKED_ABOUT, len(source)))])
    x = to_float(raw).contiguous()
    for width in model.width_mults:
        for point in sorted(points):
            if outputs_differ(network_at(model, point, width), x, y):
                raise ConfigError(random_refusal(refused[0]))


def _check_noise(spec: EvalSpec, noisy: bool, above_zero: bool) -> None:
    drawn = [noise for noise in spec.noise if noise != "fixed"]
    if drawn and not noisy:
        raise ConfigError(f"noise={drawn[0]}: this network has no weight noise; valid: fixed (or leave it out)")
    for attack in attacks_of(spec):
        if attack.refuses_random and drawn and above_zero:
            raise ConfigError(f"noise={drawn[0]}: {random_refusal(attack.name)}")
        if attack.eot_draws > 1 and "fresh" in spec.noise:
            how = f"attack={attack.name} averages over {attack.eot_draws} draws by itself"
            raise ConfigError(f"noise=fresh: {how}; valid: eot, fixed")
