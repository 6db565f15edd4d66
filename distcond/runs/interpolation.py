"""Interpolated weights between the two runs of a pair, with normalisation statistics estimated anew.

The statistics of neither run fit the weights between them. The estimate is the mean over batches of training images,
without attack or augmentation, in float32: the same images for every position and every pair of a data set. Estimates
are cached in the run directory, so all processes and machines use the same network.
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

#: Images per estimate, and the largest batch.
EXAMPLES, BATCH = 2000, 100
#: Version of the estimation procedure. Cached statistics of other versions are ignored.
VERSION = 2
#: Positions whose statistics are kept in memory.
_MAX_IN_MEMORY = 64


class Interpolation:
    """`interpolation(pair, t)`: the plain network at a share t in (0, 1) between the standard and the robust run.

    Args:
        run_path: directory of the pair.
        config: of the pair; its `data` says where the training images are.
        fingerprint: of the images that the pair was made with.
        weights: digest of the pair's weights on disk. Statistics of other weights are not cached.

    Attributes:
        keep_path: where new statistics are cached; `run_path` by default. Those in `run_path` are used, too.

    Raises, for a position whose statistics are not cached:
        ConfigError: the training images are missing or have changed.
    """

    def __init__(self, run_path: Path, config: Config, fingerprint: str, weights: str) -> None:
        self.run_path, self.config, self.fingerprint, self.weights = run_path, config, fingerprint, weights
        self.keep_path = run_path
        self._in_memory: dict[tuple[float, str], dict[str, Tensor]] = {}
        self._digest: tuple[object, str] = (None, "")

    @property
    def procedure(self) -> dict[str, str | int]:
        """What determines the statistics of given weights, as plain values."""
        examples = min(self.config.train_examples or EXAMPLES, EXAMPLES)
        return {"version": VERSION, "images": self.fingerprint, "examples": examples, "batch": BATCH}

    def __call__(self, pair: ConditionalModel, t: float) -> ConditionalModel:
        """A new network in eval mode, on the pair's device and of its dtype, without gradients."""
        network, weights = interpolate_weights(pair, t, self.config), self._weights_of(pair)
        statistics = self._in_memory.get((t, weights))
        if statistics is None:
            statistics = self._load_or_estimate(network, t, weights)
            while len(self._in_memory) >= _MAX_IN_MEMORY:
                del self._in_memory[next(iter(self._in_memory))]
            self._in_memory[t, weights] = statistics
        network.load_state_dict({**network.state_dict(), **statistics})
        return network.to(next(pair.parameters()).dtype)

    def _weights_of(self, pair: ConditionalModel) -> str:
        """`weights_digest`, computed again only if a tensor was written to or replaced."""
        versions = tuple((value.data_ptr(), value._version) for value in pair.state_dict().values())
        if self._digest[0] != versions:
            self._digest = versions, weights_digest(pair)
        return self._digest[1]

    def _load_or_estimate(self, network: ConditionalModel, t: float, weights: str) -> dict[str, Tensor]:
        """The statistics at position t, on the CPU."""
        folders = dict.fromkeys([self.run_path, self.keep_path])
        files = [path / INTERPOLATED_DIR / f"t{t!r}.pt" for path in folders]
        cached = self._load(files, network, weights)
        if cached is not None:
            return cached
        file = files[-1]
        if weights != self.weights or not _can_write(file):
            return self._estimate(network)
        with file_lock(file.with_name(f".{file.name}.lock")):
            statistics = self._load([file], network, weights)  # another process may have written them
            if statistics is None:
                statistics = self._estimate(network)
                with atomic_write(file) as temporary:
                    torch.save({"weights": weights, **self.procedure, "statistics": statistics}, temporary)
        return statistics

    def _load(self, files: Iterable[Path], network: ConditionalModel, weights: str) -> dict[str, Tensor] | None:
        """Cached statistics of these weights by this procedure; None if no file has them."""
        expected = {"weights": weights, **self.procedure}
        shapes = {name: value.shape for name, value in running_statistics(network.state_dict()).items()}
        for file in files:
            with suppress(Exception):
                content = torch.load(file, map_location="cpu", weights_only=True)
                statistics: dict[str, Tensor] = content.pop("statistics")
                if content == expected and {name: value.shape for name, value in statistics.items()} == shapes:
                    return statistics
        return None

    def _estimate(self, network: ConditionalModel) -> dict[str, Tensor]:
        statistics = estimate_statistics(network, self._images(network.mean.device))
        return {name: value.cpu().clone() for name, value in statistics.items()}

    def _images(self, device: torch.device) -> Iterable[Tensor]:
        """Batches (n, 3, H, W) in [0, 1]."""
        data = self.config.data
        files = prepare_data(data)
        if files.fingerprint != self.fingerprint:
            raise ConfigError(
                f"data.root={data.root}: not the images that {self.run_path} was made with (fingerprint "
                f"{files.fingerprint}, needed {self.fingerprint}); statistics are estimated on those"
            )
        source = open_source(files, "train", device, data.threads)
        batches = statistics_batches(source.labels, self.config.train_examples)
        return (to_float(raw) for raw, _ in source.read(batches))


def statistics_batches(labels: np.ndarray, train_examples: int) -> list[np.ndarray]:
    """Rows (n,) int64 of the training images for the estimate, by batch; 0 `train_examples` means all.

    Not in stored order: data sets sorted by class would give batches of one class.
    """
    rows = stratified_order(labels)[: min(train_examples or EXAMPLES, EXAMPLES)]
    return np.array_split(rows, -(-len(rows) // BATCH))


def interpolate_weights(pair: ConditionalModel, t: float, config: Config) -> ConditionalModel:
    """The plain network of interpolated weights and biases, on the pair's device, with the standard run's statistics.

    In float32, or in float64 if the pair is: the statistics are estimated in that dtype.
    """
    dtype = torch.promote_types(next(pair.parameters()).dtype, torch.float32)
    clean, robust = split_states(pair.backbone.state_dict())
    statistics = running_statistics(clean)
    weights = {n: (value.to(dtype), robust[n].to(dtype)) for n, value in clean.items() if n not in statistics}
    state = statistics | {name: torch.lerp(*both, t) for name, both in weights.items()}
    heads = [module for module in pair.backbone.modules() if isinstance(module, nn.Linear)]
    backbone = reference_model(config.model, heads[-1].out_features).to(dtype).to_empty(device=pair.mean.device)
    backbone.load_state_dict(state)
    mean, std = (tuple(values.flatten().tolist()) for values in (pair.mean, pair.std))
    network = ConditionalModel(backbone, mean, std).to(pair.mean.device, dtype).eval().requires_grad_(False)
    network.classes = pair.classes
    return network


@torch.no_grad()
def estimate_statistics(network: ConditionalModel, images: Iterable[Tensor]) -> dict[str, Tensor]:
    """The running statistics of every normalisation over batches of images (n, 3, H, W), by state_dict name.

    Each is the mean over batches of the layer's batch means and unbiased batch variances.
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


def _can_write(file: Path) -> bool:
    """Whether `file` can be written, and its missing folders made."""
    folder = next((folder for folder in file.parents if folder.exists()), Path.cwd())
    return can_write(folder)


def join_states(
    clean: Mapping[str, Tensor], robust: Mapping[str, Tensor], names: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The state of a pair's backbone, with the tensor `names` that it has, from those of two plain backbones."""
    roles = {name: role_of(name) for name in names}
    return {name: (robust if of.route else clean)[of.role] for name, of in roles.items()}


def split_states(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The states of the clean and of the robust plain backbone, from that of a pair's backbone."""
    roles = {name: role_of(name) for name in state}
    clean, robust = ({of.role: state[n] for n, of in roles.items() if of.route is route} for route in (False, True))
    return clean, robust
