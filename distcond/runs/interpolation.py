"""Weights between the two runs of a pair: interpolated, with the normalisation's statistics estimated anew.

The statistics of the ends do not hold between them. They are the mean over batches of training images, without attack
and without augmentation, in float32: the same images for every position and every pair of a data set. Estimates are
kept beside the run, so that all processes and machines have one network.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from distcond.atomic_io import atomic_write, file_lock
from distcond.config.schema import Config
from distcond.data.loader import to_float
from distcond.data.prepare import open_source, prepare_data
from distcond.data.splits import stratified_order
from distcond.distributed.running_statistics import running_statistics
from distcond.errors import ConfigError
from distcond.models.conditional import ConditionalModel
from distcond.models.tensor_roles import role_of
from distcond.models.weights_digest import weights_digest
from distcond.path_errors import can_write
from distcond.run_layout import INTERPOLATED_DIR
from distcond.runs.build import full_float32, reference_model

#: Images behind the statistics of a position, and how many of them make a batch at most.
EXAMPLES, BATCH = 2000, 100
#: Of how images become statistics: another number where that changes, so that nothing of another kind is used.
VERSION = 2
#: Positions whose statistics are held in memory.
_HELD = 64


class Interpolation:
    """`interpolation(pair, t)`: the plain network a share t in (0, 1) of the way from the standard to the robust run.

    Args:
        run_path: the pair's directory.
        config: of the pair; its `data` says where the training images lie now.
        fingerprint: of the images that the pair was made with.
        weights: digest of the pair as it lies there; statistics of other weights are not written down.

    Attributes:
        keep_path: where statistics are kept, besides what lies in `run_path`: there, unless told otherwise.

    Raises, when asked for a position that nobody asked for before:
        ConfigError: the training images are not there, or are others.
    """

    def __init__(self, run_path: Path, config: Config, fingerprint: str, weights: str) -> None:
        self.run_path, self.config, self.fingerprint, self.weights = run_path, config, fingerprint, weights
        self.keep_path = run_path
        self._held: dict[tuple[float, str], dict[str, Tensor]] = {}
        self._digest: tuple[object, str] = (None, "")

    @property
    def procedure(self) -> dict[str, str | int]:
        """What the statistics of given weights are a function of, as plain values."""
        examples = min(self.config.train_examples or EXAMPLES, EXAMPLES)
        return {"version": VERSION, "images": self.fingerprint, "examples": examples, "batch": BATCH}

    def __call__(self, pair: ConditionalModel, t: float) -> ConditionalModel:
        """A network of the caller's own: in eval mode, on the pair's device and of its type, without gradients."""
        network, weights = interpolate_weights(pair, t, self.config), self._weights_of(pair)
        found = self._held.get((t, weights))
        if found is None:
            found = self._statistics(network, t, weights)
            while len(self._held) >= _HELD:
                del self._held[next(iter(self._held))]
            self._held[t, weights] = found
        network.load_state_dict({**network.state_dict(), **found})
        return network.to(next(pair.parameters()).dtype)

    def _weights_of(self, pair: ConditionalModel) -> str:
        """`weights_digest`, computed again only where a tensor was written to or replaced."""
        mark = tuple((value.data_ptr(), value._version) for value in pair.state_dict().values())
        if self._digest[0] != mark:
            self._digest = mark, weights_digest(pair)
        return self._digest[1]

    def _statistics(self, network: ConditionalModel, t: float, weights: str) -> dict[str, Tensor]:
        """On the CPU."""
        places = dict.fromkeys([self.run_path, self.keep_path])
        files = [path / INTERPOLATED_DIR / f"t{t!r}.pt" for path in places]
        known = self._first(files, network, weights)
        if known is not None:
            return known
        file = files[-1]
        if weights != self.weights or not _can_keep(file):
            return self._estimated(network)
        with file_lock(file.with_name(f".{file.name}.lock")):
            known = self._first([file], network, weights)
            if known is None:
                known = self._estimated(network)
                with atomic_write(file) as aside:
                    torch.save({"weights": weights, **self.procedure, "statistics": known}, aside)
        return known

    def _first(self, files: Iterable[Path], network: ConditionalModel, weights: str) -> dict[str, Tensor] | None:
        """What was estimated for these weights by this procedure; None where there is nothing that can be used."""
        wanted = {"weights": weights, **self.procedure}
        shapes = {name: value.shape for name, value in running_statistics(network.state_dict()).items()}
        for file in files:
            with suppress(Exception):
                held = torch.load(file, map_location="cpu", weights_only=True)
                found: dict[str, Tensor] = held.pop("statistics")
                if held == wanted and {name: value.shape for name, value in found.items()} == shapes:
                    return found
        return None

    def _estimated(self, network: ConditionalModel) -> dict[str, Tensor]:
        found = estimate_statistics(network, self._images(network.mean.device))
        return {name: value.cpu().clone() for name, value in found.items()}

    def _images(self, device: torch.device) -> Iterable[Tensor]:
        """Batches (n, 3, H, W) in [0, 1]."""
        data = self.config.data
        files = prepare_data(data)
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


def interpolate_weights(pair: ConditionalModel, t: float, config: Config) -> ConditionalModel:
    """The plain network of interpolated weights and biases, on the pair's device, with the clean end's statistics.

    In float32, or in float64 if the pair is: statistics are not estimated in less.
    """
    exact = torch.promote_types(next(pair.parameters()).dtype, torch.float32)
    clean, robust = split_states(pair.backbone.state_dict())
    own = running_statistics(clean)
    ends = {name: (value.to(exact), robust[name].to(exact)) for name, value in clean.items() if name not in own}
    state = own | {name: torch.lerp(*both, t) for name, both in ends.items()}
    heads = [module for module in pair.backbone.modules() if isinstance(module, nn.Linear)]
    backbone = reference_model(config.model, heads[-1].out_features).to(exact).to_empty(device=pair.mean.device)
    backbone.load_state_dict(state)
    mean, std = (tuple(values.flatten().tolist()) for values in (pair.mean, pair.std))
    network = ConditionalModel(backbone, mean, std).to(pair.mean.device, exact).eval().requires_grad_(False)
    network.classes = pair.classes
    return network


@torch.no_grad()
def estimate_statistics(network: ConditionalModel, images: Iterable[Tensor]) -> dict[str, Tensor]:
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
    return running_statistics(network.state_dict())


def _can_keep(file: Path) -> bool:
    """Whether a file can be written to its folder, or the folder made."""
    folder = next((folder for folder in file.parents if folder.exists()), Path.cwd())
    return can_write(folder)


def join_states(
    clean: Mapping[str, Tensor], robust: Mapping[str, Tensor], names: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The state of a pair's backbone, of the `names` that it has, from those of two plain ones."""
    places = {name: role_of(name) for name in names}
    return {name: (robust if place.route else clean)[place.role] for name, place in places.items()}


def split_states(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The states of the clean and the robust plain backbone in that of a pair's."""
    places = {name: role_of(name) for name in state}
    clean, robust = ({p.role: state[n] for n, p in places.items() if p.route is route} for route in (False, True))
    return clean, robust
