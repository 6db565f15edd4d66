"""Initialises a run's network from `init_from`: another run, one of its checkpoints, or a file of weights."""

from __future__ import annotations

import socket
from pathlib import Path

import torch
from torch import Tensor, nn

from distcond.atomic_io import write_json
from distcond.config.schema import Config
from distcond.distributed.world import World
from distcond.errors import ConfigError
from distcond.init_from.code_matrix import copy_codes_into
from distcond.init_from.matching import Match, TargetNetwork, best_match
from distcond.init_from.mismatch import class_order_note, explain_mismatch
from distcond.init_from.report import InitReport, build_init_report, takes_classifier, with_codes
from distcond.init_from.weights_file import Weights, read_weights_file, unwrap_weights
from distcond.methods.method import Method
from distcond.models.conditional import ConditionalModel
from distcond.path_errors import name_setting_in_errors
from distcond.registry import lookup, table
from distcond.run_layout import INIT_FROM_FILE, SHARED_FILE
from distcond.runs.build import build_model, classifier_name, reference_model
from distcond.runs.checkpoint import load_shared, pooled_statistics
from distcond.runs.grid import lam_grid
from distcond.runs.load_run import find_checkpoint
from distcond.runs.run_dir import RunDir


def check_init_from(config: Config) -> InitReport | None:
    """Try `init_from` and `method.code_file` on a fresh network of the run; None if neither is set.

    Raises:
        ConfigError: one cannot be read, or does not fit the model; or `epochs=0` without weights to evaluate.
    """
    if config.epochs == 0:
        _check_evaluation_only(config)
    return copy_into(build_model(config), config) if config.init_from or _code_file(config) else None


def apply_init_from(model: ConditionalModel, config: Config, run: RunDir, world: World) -> None:
    """Copy weights and codes of the config's files into the network of a new run, and write `init_from.json`.

    Raises:
        ConfigError: as `check_init_from`, or the ranks read different files.
    """
    if not (config.init_from or _code_file(config)):
        return
    report = copy_into(model, config)
    _require_same_on_all_ranks(report.digest, world, _files(config))
    if world.first:
        write_json(run.path / INIT_FROM_FILE, report.record)


def copy_into(model: ConditionalModel, config: Config) -> InitReport:
    """Copy the weights of `init_from` and the codes of `method.code_file` to `model`, whichever are set.

    Raises:
        ConfigError: as `check_init_from`.
    """
    weights, file = copy_weights_into(model, config) if config.init_from else None, _code_file(config)
    if not file:
        assert weights is not None
        return weights
    return with_codes(weights, file, copy_codes_into(model, file))


def _code_file(config: Config) -> str:
    return str(getattr(config.method, "code_file", ""))


def _files(config: Config) -> str:
    named = {"init_from": config.init_from, "method.code_file": _code_file(config)}
    return ", ".join(f"{setting}={file}" for setting, file in named.items() if file)


def _check_evaluation_only(config: Config) -> None:
    method: Method = lookup("method", config.method.name)
    if not config.init_from:
        raise ConfigError("epochs=0: evaluates the weights of init_from, which is not set; set it, or epochs=1 or more")
    if method.stages is not None or method.sparsity(config, build_model(config)) is not None:
        raise ConfigError(f"epochs=0: {method.name} makes its masks in training; valid: 1 or more")


@torch.no_grad()
def copy_weights_into(model: ConditionalModel, config: Config) -> InitReport:
    """Copy the tensors of `config.init_from` to every tensor of `model` with the same role.

    A tensor that layers of `model` share, such as a noise amplitude, starts at the mean of their tensors.

    Raises:
        ConfigError: as `check_init_from`.
    """
    weights, target = read_weights(config.init_from), target_network(model, config)
    match = best_match(target, weights.tensors, table("convention").values())
    if not match.fits:
        raise ConfigError(f"init_from={config.init_from}: {explain_mismatch(match, weights, target, config.model)}")
    weights = _with_training_normalisation(weights, match)
    classes = class_order_note(weights, config) if takes_classifier(match) else ""
    report = build_init_report(config.init_from, weights, match, model, classes)  # compares with the old values
    parts_of: dict[int | str, list[Tensor]] = {}
    for name, candidate in match.copies.items():
        tensor = target.state[name]
        parts = parts_of.setdefault(tensor.data_ptr() or name, [])  # an empty tensor has no address
        parts.append(candidate.tensor[tuple(slice(size) for size in tensor.shape)])
        tensor.copy_(parts[0] if len(parts) == 1 else torch.stack(parts).mean(0))
    if weights.mean is not None and weights.std is not None:
        model.mean.copy_(weights.mean)
        model.std.copy_(weights.std)
    return report


def _with_training_normalisation(weights: Weights, match: Match) -> Weights:
    """The weights with the normalisation they were trained with, if their key mapping determines it."""
    if weights.mean is not None or not lookup("convention", match.convention).raw_pixels:
        return weights
    return weights._replace(mean=torch.zeros(3, 1, 1), std=torch.ones(3, 1, 1))


def target_network(model: ConditionalModel, config: Config) -> TargetNetwork:
    """The tensors of a run's network, by the names of its reference model."""
    state: dict[str, Tensor] = {name.removeprefix("backbone."): value for name, value in model.state_dict().items()}
    for name in ("mean", "std"):
        del state[name]
    plain = reference_model(config.model, num_classes(model.backbone))
    route = model.routing.at(max(lam_grid(config))).route
    return TargetNetwork(state, plain.state_dict(), classifier_name(plain), bool(route))


def num_classes(backbone: nn.Module) -> int:
    """Number of logits: outputs of the last linear layer."""
    return [module for module in backbone.modules() if isinstance(module, nn.Linear)][-1].out_features


def _require_same_on_all_ranks(digest: str, world: World, files: str) -> None:
    # In pieces that float32 represents exactly.
    own = torch.tensor([float(int(digest[at : at + 4], 16)) for at in range(0, 16, 4)], device=world.device)
    if not torch.equal(world.sum(own), own * world.size):
        raise ConfigError(f"{files}: the workers read different content; use a path that all nodes share")


def read_weights(init_from: str) -> Weights:
    """The weights that `init_from` names: of a run directory's best checkpoint, of a checkpoint, or of a file.

    Raises:
        ConfigError: it cannot be read; the message names the machine, since others may see other files.
    """
    try:
        with name_setting_in_errors({"init_from": init_from}):
            path = Path(init_from).expanduser().absolute()
            if path.is_dir():
                checkpoint = _find_checkpoint(path)
                classes = tuple(load_shared(checkpoint).get("classes", ()))
                return unwrap_weights(_load_evaluated_state(checkpoint))._replace(classes=classes)
            if path.is_file():
                open(path, "rb").close()  # a permission error is not a damaged file
                return unwrap_weights(read_weights_file(path))
    except ConfigError as error:
        message = str(error)
        prefix = "" if message.startswith("init_from=") else f"init_from={init_from}: "
        raise ConfigError(prefix + message) from error
    valid = "name a run directory, one of its checkpoints or a file of weights that every worker can read"
    raise ConfigError(f"init_from={init_from}: no such file or directory on {socket.gethostname()}; {valid}")


def _find_checkpoint(folder: Path) -> Path:
    if (folder / SHARED_FILE).is_file():
        return folder
    run = RunDir(folder)
    if not run.checkpoints.is_dir():
        raise ConfigError("a directory without checkpoints; name a run directory or one of its checkpoints")
    return find_checkpoint(run, "best")


def _load_evaluated_state(path: Path) -> dict[str, Tensor]:
    """The state that a checkpoint is evaluated with: pooled statistics, and averaged weights if the run has them."""
    shared = load_shared(path)
    state: dict[str, Tensor] = shared["model"] | pooled_statistics(path)
    if shared.get("averaged") is not None:
        mean = shared["averaged"]["parameters"] | pooled_statistics(path, "averaged")
        # The average ignores masks: a weight that is exactly zero stays zero.
        state |= {name: value if value.dim() < 2 else value * (state[name] != 0) for name, value in mean.items()}
    return state
