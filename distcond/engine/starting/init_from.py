"""Start a run from a network that there is: another run's, or a file of weights from elsewhere (`init_from`)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from distcond.config.schema import Config
from distcond.engine.build import build_model
from distcond.engine.grid import lam_grid
from distcond.engine.job import Job
from distcond.engine.run_dir import write_json
from distcond.engine.starting.class_order import class_note
from distcond.engine.starting.misfit import misfit
from distcond.engine.starting.plain_build import classifier, plain_build
from distcond.engine.starting.report import FILE, Report, report, takes_classifier
from distcond.engine.starting.source import read
from distcond.engine.world import World
from distcond.errors import ConfigError
from distcond.models.conditional import ConditionalModel
from distcond.registry import lookup, table
from distcond.starting_points.match import Match, Ours, best_match
from distcond.starting_points.wrapping import Weights


def check(config: Config) -> Report | None:
    """What `init_from` will do to the run's network, tried on a copy of it; None where it is not set.

    Raises:
        ConfigError: nothing to read there, or it does not fit the model.
    """
    return put_into(build_model(config), config) if config.init_from else None


def start(job: Job) -> None:
    """Give the network of a run that begins the weights it starts from, and write down which.

    Raises:
        ConfigError: as `check`, or the ranks read different files.
    """
    if not job.config.init_from:
        return
    found = put_into(job.model, job.config)
    _agree(found.digest, job.world, job.config.init_from)
    if job.world.first:
        write_json(job.run.path / FILE, found.record)


@torch.no_grad()
def put_into(model: ConditionalModel, config: Config) -> Report:
    """Copy what `config.init_from` holds to every part of `model` that plays the same role.

    What layers of `model` share, as an amplitude of the noise, starts at the mean of what they had each.

    Raises:
        ConfigError: as `check`.
    """
    weights, here = read(config.init_from), ours(model, config)
    match = best_match(here, weights.tensors, table("convention").values())
    if not match.fits:
        raise ConfigError(f"init_from={config.init_from}: {misfit(match, weights, here, config.model)}")
    weights = _as_trained(weights, match)
    classes = class_note(weights, config) if takes_classifier(match) else ""
    found = report(config.init_from, weights, match, model, classes)  # before the copying: it compares
    given: dict[int | str, list[Tensor]] = {}
    for name, candidate in match.copies.items():
        target = here.state[name]
        parts = given.setdefault(target.data_ptr() or name, [])  # an empty tensor lies nowhere
        parts.append(candidate.tensor[tuple(slice(size) for size in target.shape)])
        target.copy_(parts[0] if len(parts) == 1 else torch.stack(parts).mean(0))
    if weights.mean is not None and weights.std is not None:
        model.mean.copy_(weights.mean)
        model.std.copy_(weights.std)
    return found


def _as_trained(weights: Weights, match: Match) -> Weights:
    """The weights with the normalisation that their authors trained them under, where their names tell."""
    if weights.mean is not None or not lookup("convention", match.convention).raw_pixels:
        return weights
    return weights._replace(mean=torch.zeros(3, 1, 1), std=torch.ones(3, 1, 1))


def ours(model: ConditionalModel, config: Config) -> Ours:
    """The tensors of a run's network by the names that its plain build has."""
    state: dict[str, Tensor] = {name.removeprefix("backbone."): value for name, value in model.state_dict().items()}
    for name in ("mean", "std"):
        del state[name]
    plain = plain_build(config.model, num_classes(model.backbone))
    route = model.routing.at(max(lam_grid(config))).route
    return Ours(state, plain.state_dict(), classifier(plain), bool(route))


def num_classes(backbone: nn.Module) -> int:
    """Logits of a network: outputs of its last linear layer."""
    return [module for module in backbone.modules() if isinstance(module, nn.Linear)][-1].out_features


def _agree(digest: str, world: World, init_from: str) -> None:
    # In pieces that a float32 holds exactly.
    mine = torch.tensor([float(int(digest[at : at + 4], 16)) for at in range(0, 16, 4)], device=world.device)
    if not torch.equal(world.sum(mine), mine * world.size):
        raise ConfigError(f"init_from={init_from}: the workers read different content; use a path that all nodes share")
