"""Creates the run directory of a pair from two finished runs: config, checkpoint, and the record of both."""

from __future__ import annotations

import logging
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from distcond.atomic_io import write_json
from distcond.config.overrides import apply_overrides, to_settings
from distcond.config.schema import Config
from distcond.data.prepare import prepare_data, resolve_dataset
from distcond.distributed.world import World
from distcond.errors import ConfigError
from distcond.layers.plain import BatchNorm2d, Conv2d
from distcond.models.conditional import ConditionalModel
from distcond.models.flops import cost_at
from distcond.models.weights_digest import weights_digest
from distcond.registry import lookup, table
from distcond.results import history
from distcond.results.labels import trains_on_attacks
from distcond.run_layout import FINISHED_FILE, PAIR_FILE
from distcond.runs import checkpoint
from distcond.runs.build import build_model
from distcond.runs.checkpoint import CheckpointStep, Position, latest, load_shared, step_of
from distcond.runs.interpolation import join_states
from distcond.runs.load_run import find_checkpoint, load
from distcond.runs.pair_record import has_pair_record
from distcond.runs.run_cache import fetch_run
from distcond.runs.run_dir import RunDir, run_dir_for
from distcond.storage.uri import is_uri

_log = logging.getLogger(__name__)


class PairSource(NamedTuple):
    """One of the two runs: config, network, and its entry in the record of the pair."""

    config: Config
    model: ConditionalModel
    record: dict[str, Any]

    @property
    def name(self) -> str:
        """The path that the user gave, for messages."""
        return str(self.record["path"])


def read_source(place: str, which: str) -> PairSource:
    """Load a run for a pair.

    Args:
        place: path or URI of the run.
        which: checkpoint: "best", "last" or "last_raw".

    Raises:
        ConfigError: no run or checkpoint there, the run is unfinished, its training cost is unknown, or its method does
            not train one plain network.
    """
    run = RunDir(fetch_run(place, checkpoints=True))
    config = run.config()
    if not _is_plain(config.method.name, config):
        valid = ", ".join(name for name, method in table("method").items() if _is_plain(name))
        raise ConfigError(f"{place}: method={config.method.name} trains no plain network; valid for a pair: {valid}")
    path, model = find_checkpoint(run, which), load(run.path, which)
    last = latest(run.checkpoints)
    assert last is not None
    flops = _train_flops(run, place, config, last)
    record = {
        "run": run.name,
        "path": str(place),
        "mark": run.start_id,
        "method": config.method.name,
        "seed": config.seed,
        "checkpoint": which,
        "epochs": step_of(path).epoch,
        "train_flops": flops,
        "world_sizes": list(history.world_sizes(run.path)),
        "weights": weights_digest(model),
        "init_from": config.init_from,
    }
    return PairSource(config, model, record)


def _train_flops(run: RunDir, place: str, config: Config, last: Path) -> float:
    """Training FLOPs of a finished run.

    Raises:
        ConfigError: the run is unfinished, or its training FLOPs are unknown.
    """
    if not run.finished:
        raise ConfigError(f"{place}: not finished ({step_of(last).epoch} of {config.epochs} epochs); finish it first")
    flops = float(load_shared(last).get("train_flops") or 0.0)
    if not flops > 0:
        raise ConfigError(f"{place}: {last} has no train_flops, which a pair adds up; train the run again")
    return flops


def _is_plain(name: str, config: Config | None = None) -> bool:
    """Whether a method, with its default options or those of `config`, trains one plain network."""
    method = lookup("method", name)
    layers = method.layers(method.options if config is None else config.method, False)
    return layers.conv is Conv2d and type(layers.norm(1)) is BatchNorm2d


def check_fit(standard: PairSource, robust: PairSource) -> None:
    """Check that two runs can form a pair, in this order.

    Raises:
        ConfigError: the runs differ in something, which the message names, or ROBUST was not trained on attacks.
    """
    if standard.record["weights"] == robust.record["weights"]:
        raise ConfigError(f"{robust.name}: the same network as {standard.name}; a pair needs two")
    if not trains_against_attacks(robust.config):
        raise ConfigError(
            f"{robust.name}: trained on clean images only (method={robust.config.method.name}), given as ROBUST; give "
            "STANDARD first"
        )
    first, second = _shared_settings(standard), _shared_settings(robust)
    for name in {**first, **second}:
        one, other = first.get(name), second.get(name)
        if one != other:
            both = f"{_text(one)} in {standard.name}, {_text(other)} in {robust.name}"
            raise ConfigError(f"{name}: {both}; the runs of a pair must agree in it")
    if trains_against_attacks(standard.config):
        _log.warning("%s: trained on attacks, but used as the standard run at lam 0", standard.name)
    for number, (one, other) in enumerate(zip_longest(standard.model.classes, robust.model.classes)):
        if one != other and standard.model.classes and robust.model.classes:
            both = f"class {number} is {one!r} in {standard.name}, {other!r} in {robust.name}"
            raise ConfigError(f"classes: {both}; the runs of a pair must have the same classes")


def trains_against_attacks(config: Config) -> bool:
    """Whether a run of a plain network is trained on attacked images."""
    weight = getattr(config.method, "beta", 1.0)  # of TRADES' term on attacked images
    return trains_on_attacks(config) and config.attack.epsilon > 0 and config.attack.num_steps > 0 and weight > 0


def _shared_settings(source: PairSource) -> dict[str, Any]:
    """The settings in which the runs of a pair must agree."""
    data = resolve_dataset(source.config.data)
    model = {path: value for path, value in to_settings(source.config).items() if path.startswith("model.")}
    mean, std = (tuple(values.flatten().tolist()) for values in (source.model.mean, source.model.std))
    sizes = {"data.num_classes": data.num_classes, "data.image_size": data.image_size}
    return {**model, "data.name": source.config.data.name, **sizes, "data.mean": mean, "data.std": std}


def _text(value: Any) -> str:
    if isinstance(value, tuple | list):
        return ",".join(_text(item) for item in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def pair_config(standard: PairSource, robust: PairSource, run_root: str) -> Config:
    """The config of the pair: that of the robust run, whose attack is used in evaluation, without training settings.

    Raises:
        ConfigError: `run_root` is a URI.
    """
    if is_uri(run_root):
        raise ConfigError(f"run_root={run_root}: not supported for a pair; valid: a path")
    own = robust.config
    data = replace(own.data, extra="", cutmix=0.0)
    settings = replace(own.eval, dial="switch", dial_even="no", dial_lam=1.0)
    config = replace(own, data=data, eval=settings, init_from="", run_root=run_root, fresh=False, sinks=())
    return replace(apply_overrides(config, {"method": "pair"}), sampler=own.sampler)


def create_pair(standard: PairSource, robust: PairSource, config: Config) -> RunDir:
    """Create the pair's run directory and return it. An existing one is not changed.

    Raises:
        ConfigError: the images cannot be read, or the directory is not writable.
    """
    fingerprint = prepare_data(config.data).fingerprint
    record = {"standard": standard.record, "robust": robust.record, "data": fingerprint}
    sources = [{name: of[name] for name in ("run", "mark", "weights")} for of in (standard.record, robust.record)]
    run = run_dir_for(config, f"{fingerprint}+{sources}")
    complete = run.finished and latest(run.checkpoints) is not None
    if complete and has_pair_record(run):
        return run
    model = _join_networks(standard.model, robust.model, config)
    with run.begin(config):
        write_json(run.path / PAIR_FILE, record)
        if not complete:
            _write_finished_run(run, model, config, record)
    return run


def _join_networks(standard: ConditionalModel, robust: ConditionalModel, config: Config) -> ConditionalModel:
    model = build_model(config).eval()
    clean, adv = (source.backbone.state_dict() for source in (standard, robust))
    backbone: dict[str, Tensor] = model.backbone.state_dict()
    model.backbone.load_state_dict(join_states(clean, adv, backbone))
    model.mean.copy_(standard.mean)
    model.std.copy_(standard.std)
    model.classes = standard.classes or robust.classes
    return model


def _write_finished_run(run: RunDir, model: ConditionalModel, config: Config, record: dict[str, Any]) -> None:
    both = record["standard"], record["robust"]
    epochs, flops = (sum(of[name] for of in both) for name in ("epochs", "train_flops"))
    sizes = sorted({size for of in both for size in of["world_sizes"]})
    shared = {
        "method": "pair", "train_images": None, "classes": model.classes, "optimiser": {},
        "position": tuple(Position(done=epochs)), "best": None, "train_flops": flops, "world_sizes": tuple(sizes),
        "sparsity": None, "averaged": None,
    }  # fmt: skip
    checkpoint.save_checkpoint(run.checkpoints, CheckpointStep(epochs), World(), model, shared, {})
    history.append(run.path, {"epoch": epochs, "train_flops": flops, "world_sizes": sizes})
    size = resolve_dataset(config.data).image_size
    write_json(run.path / FINISHED_FILE, {
        "epochs": epochs,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "train_flops": flops,
        "points": [_summarise_point(model, lam, size) for lam in (0.0, 1.0)],
    })  # fmt: skip


def _summarise_point(model: ConditionalModel, lam: float, size: int) -> dict[str, Any]:
    cost = cost_at(model, lam, 0, size)
    gaps = {"robust_overfitting_gap": None, "robust_generalization_gap": None}
    return {"lam": lam, "width": 1.0, **cost._asdict(), "density": cost.density, **gaps}
