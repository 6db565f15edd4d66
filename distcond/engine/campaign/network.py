"""The network that a plan is about, wherever its blocks are counted."""

from __future__ import annotations

import torch

from distcond.engine.campaign.plan import Plan
from distcond.errors import ConfigError
from distcond.models.conditional import ConditionalModel
from distcond.runs.interpolation import Interpolation
from distcond.runs.load_run import load


def network_of(plan: Plan, device: torch.device | str = "cpu") -> ConditionalModel:
    """The plan's network, in eval mode.

    Raises:
        ConfigError: as `load`, or MixedNUTS was fitted again since the plan was made.
    """
    model = load(plan.run_path, plan.campaign.checkpoint, device, plan.config.data)
    if any(point.blend == "mixednuts" for point in plan.points) and tuple(model.mix or ()) != plan.mix:
        raise ConfigError(f"{plan.run_path}: mixednuts was fitted again meanwhile; start again for the new fit")
    if isinstance(model.interpolate, Interpolation):
        model.interpolate.keep_path = plan.keep_path
    return model
