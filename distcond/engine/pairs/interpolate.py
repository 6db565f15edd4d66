"""The network of weights between two runs: its normalisation's statistics are estimated anew at every position.

Those of the ends are not those of what lies between. They are the mean over batches of training images, without attack
and without augmentation, in float32: the same images for every position and every pair of a data set. What was
estimated is kept beside the run, so that all processes and machines have one network.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from distcond.aside import locked, written_aside
from distcond.config.schema import Config
from distcond.data.described import prepared
from distcond.data.loader import to_float
from distcond.data.open import open_source
from distcond.data.subset import stratified_order
from distcond.engine.campaign.weights_digest import weights_digest
from distcond.engine.checkpoint import statistics
from distcond.engine.pairs.names import apart
from distcond.engine.precision import full_float32
from distcond.engine.starting.plain_build import plain_build
from distcond.errors import ConfigError
from distcond.models.conditional import ConditionalModel
from distcond.places import can_write

FOLDER = "interpolated"
#: Images behind the statistics of a position, and how many of them make a batch at most.
EXAMPLES, BATCH = 2000, 100
#: Networks that are held in memory.
_HELD = 8


class Interpolation:
    """`interpolation(pair, t)`: the plain network a share t in (0, 1) of the way from the standard to the robust run.

    Args:
        run_path: the pair's directory.
        config: of the pair; its `data` says where the training images lie now.
        fingerprint: of the images that the pair was made with.

    Raises, when asked for a position that nobody asked for before:
        ConfigError: the training images are not there, or are others.
    """

    def __init__(self, run_path: Path, config: Config, fingerprint: str) -> None:
        self.run_path, self.config, self.fingerprint = run_path, config, fingerprint
        self._held: dict[tuple[float, str], ConditionalModel] = {}

    def __call__(self, pair: ConditionalModel, t: float) -> ConditionalModel:
        """In eval mode, on the pair's device, without gradients of its weights."""
        device = pair.mean.device
        if (t, str(device)) not in self._held:
            network = lerped(pair, t, self.config)
            network.load_state_dict(self._statistics(pair, network, t), strict=False)
            while len(self._held) >= _HELD:
                del self._held[next(iter(self._held))]
            self._held[t, str(device)] = network
        return self._held[t, str(device)]

    def _statistics(self, pair: ConditionalModel, network: ConditionalModel, t: float) -> dict[str, Tensor]:
        file, weights = self.run_path / FOLDER / f"t{t!r}.pt", weights_digest(pair)
        known = _read(file, weights)
        if known is not None:
            return known
        if not can_write(self.run_path) or (file.parent.exists() and not can_write(file.parent)):
            return estimated(network, self._images(pair.mean.device))
        with locked(file.with_name(f".{file.name}.lock")):
            known = _read(file, weights)
            if known is None:
                known = estimated(network, self._images(pair.mean.device))
                with written_aside(file) as aside:
                    torch.save({"weights": weights, "statistics": {n: v.cpu() for n, v in known.items()}}, aside)
        return known

    def _images(self, device: torch.device) -> Iterable[Tensor]:
        """Batches (n, 3, H, W) in [0, 1]."""
        data = self.config.data
        files = prepared(data)
        if files.fingerprint != self.fingerprint:
            raise ConfigError(
                f"data.root={data.root}: not the images that {self.run_path} was made with (fingerprint "
                f"{files.fingerprint}, needed {self.fingerprint}); its statistics are estimated on those"
            )
        source = open_source(files, "train", device, data.threads)
        batches = batches_of(source.labels, self.config.train_examples)
        return (to_float(raw) for raw, _ in source.read(batches))


def batches_of(labels: np.ndarray, train_examples: int) -> list[np.ndarray]:
    """Rows (n,) int64 of the training images behind the statistics, batch by batch; 0 `train_examples` means all.

    Never in their stored order: classes that lie one behind the other would make batches of one class each.
    """
    rows = stratified_order(labels)[: min(train_examples or EXAMPLES, EXAMPLES)]
    return np.array_split(rows, -(-len(rows) // BATCH))


def lerped(pair: ConditionalModel, t: float, config: Config) -> ConditionalModel:
    """The plain network of interpolated weights and biases, on the pair's device, with the clean end's statistics."""
    clean, robust = apart(pair.backbone.state_dict())
    own = statistics(clean)
    state = {name: value if name in own else torch.lerp(value, robust[name], t) for name, value in clean.items()}
    heads = [module for module in pair.backbone.modules() if isinstance(module, nn.Linear)]
    backbone = plain_build(config.model, heads[-1].out_features).to_empty(device=pair.mean.device)
    backbone.load_state_dict(state)
    mean, std = (tuple(values.flatten().tolist()) for values in (pair.mean, pair.std))
    network = ConditionalModel(backbone, mean, std).to(pair.mean.device).eval().requires_grad_(False)
    network.classes = pair.classes
    return network


@torch.no_grad()
def estimated(network: ConditionalModel, images: Iterable[Tensor]) -> dict[str, Tensor]:
    """The running statistics of every normalisation over batches of images, by state_dict name.

    The mean of the batches' means and unbiased variances, each layer's of what the layers before make of its batch.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a cumulative mean
        norm.train()
    with full_float32():
        for x in images:
            network(x, network.condition(0.0))
    network.eval()
    return statistics(network.state_dict())


def _read(file: Path, weights: str) -> dict[str, Tensor] | None:
    """What was estimated for these weights; None where there is nothing that can be read."""
    with suppress(Exception):
        held = torch.load(file, map_location="cpu", weights_only=True)
        if held["weights"] == weights:
            found: dict[str, Tensor] = held["statistics"]
            return found
    return None
