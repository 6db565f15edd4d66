"""Builds the model and the training step of a config, with its precision and memory layout.

`reference_model` is the model of plain layers on the meta device: the names and shapes that init_from and pairs match
against.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

import torch
from torch import Tensor, nn

from distcond.config.schema import Config, Options, PrecisionConfig
from distcond.data.prepare import resolve_dataset
from distcond.errors import ConfigError
from distcond.layers.layer_set import plain_layers
from distcond.methods.compiled_attack import CompiledAttack
from distcond.methods.method import Method
from distcond.methods.recompute import recompute_blocks
from distcond.methods.train_step import TrainStep
from distcond.models.conditional import ConditionalModel
from distcond.models.model import Model
from distcond.registry import lookup
from distcond.runs.grid import operating_points
from distcond.seeding import key


def build_model(config: Config) -> ConditionalModel:
    """The network of a run with its initial weights, a function of `config.seed`; on the CPU, in train mode.

    Raises:
        ConfigError: settings contradict each other, such as a sweep at a lam for which the method has no network.
    """
    method: Method = lookup("method", config.method.name)
    method.lam_grid(config)
    operating_points(config)
    encode, width_mults = method.encode(config.method), method.widths(config.method)
    network: Model = lookup("model", config.model.name)
    dataset = resolve_dataset(config.data)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key(config.seed, "weights"))
        layers = method.layers(config.method, config.shared_statistics)
        backbone = network.build(layers, dataset.num_classes, config.model)
    routing = method.routing(config.method)
    return ConditionalModel(backbone, dataset.mean, dataset.std, routing, encode, width_mults)


def build_step(config: Config, model: ConditionalModel, device: torch.device) -> TrainStep:
    """The training step of a run on `device`, with its precision and memory layout."""
    method: Method = lookup("method", config.method.name)
    model.to(device=device, memory_format=memory_format(config.precision, device))  # type: ignore[call-overload]
    for parameter in model.parameters():
        if parameter.dim() == 4 and parameter.requires_grad:
            parameter.register_hook(partial(_match_strides, torch.empty_like(parameter.detach(), device="meta")))
    autocast = autocast_dtype(config.precision, device)
    objective = method.objective(config.method)
    if config.precision.recompute:
        recompute_blocks(model.backbone)
    compiled = CompiledAttack(model, config.attack, autocast) if config.precision.compile == "attack" else None
    return TrainStep(
        model, objective, config.attack, autocast, config.precision.fold_attack, config.label_smoothing,
        config.optim.awp_gamma, config.attack_mode, compiled,
    )  # fmt: skip


def check_step(config: Config) -> None:
    """Check that `precision.compile` and `precision.recompute` can work here and with the other settings.

    Raises:
        ConfigError: compiled attacks that are not folded, or on a CPU without a C++ compiler; or recomputed blocks that
            share their statistics over ranks, which would communicate within the backward pass.
    """
    precision = config.precision
    if precision.recompute and config.shared_statistics:
        raise ConfigError("precision.recompute=true: not with shared_statistics=true; set one of them to false")
    if precision.compile == "off":
        return
    if not precision.fold_attack:
        raise ConfigError(
            "precision.compile=attack: only folded attacks compile; set precision.fold_attack=true, or off"
        )
    if config.attack_mode != "eval":
        raise ConfigError("precision.compile=attack: not with attack_mode=train, which cannot fold; valid: off")
    compiler = os.environ.get("CXX", "g++")
    if not torch.cuda.is_available() and shutil.which(compiler) is None:
        raise ConfigError(f"precision.compile=attack: no C++ compiler {compiler}; install one or set CXX; valid: off")


def _match_strides(like: Tensor, grad: Tensor) -> Tensor:
    """The gradient with the strides of its parameter `like`. DDP expects them, and warns and copies otherwise.

    The strides of a 1x1 kernel are valid in both memory formats, so its gradient may have either.
    """
    if grad.stride() == like.stride():
        return grad
    return torch.empty_strided(like.size(), like.stride(), dtype=grad.dtype, device=grad.device).copy_(grad)


def autocast_dtype(precision: PrecisionConfig, device: torch.device) -> torch.dtype | None:
    """bfloat16 for "bf16", or for "auto" on hardware that supports it; otherwise None (float32)."""
    if precision.train == "float32":
        return None
    return torch.bfloat16 if precision.train == "bf16" or fast_bf16(device) else None


def memory_format(precision: PrecisionConfig, device: torch.device) -> torch.memory_format:
    """channels_last unless `precision.layout` is contiguous: it was faster on every device measured."""
    return torch.contiguous_format if precision.layout == "contiguous" else torch.channels_last


def fast_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 in hardware (Ampere or later; AVX512-BF16 or AMX on a CPU)."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    probes = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(probe is not None and probe() for probe in probes)


@contextmanager
def training_precision(precision: PrecisionConfig, device: torch.device) -> Iterator[None]:
    """Within the block, float32 training uses no TF32. With autocast nothing changes."""
    with nullcontext() if autocast_dtype(precision, device) is not None else full_float32():
        yield


@contextmanager
def evaluation_precision(name: str, device: torch.device) -> Iterator[None]:
    """Within the block, networks run in "float32", "tf32" or "bf16", as `precision.validation`."""
    with tf32(name == "tf32"), torch.autocast(device.type, torch.bfloat16, enabled=name == "bf16"):
        yield


def full_float32() -> AbstractContextManager[None]:
    """Disable TF32 within the block."""
    return tf32(False)


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Allow or disable TF32 (10 bits of mantissa) within the block; cuDNN uses it for convolutions by default."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def reference_model(options: Options, num_classes: int) -> nn.Module:
    """The model of plain layers, on the meta device."""
    network: Model = lookup("model", options.name)
    with torch.device("meta"):
        return network.build(plain_layers(), num_classes, options)


def classifier_name(network: nn.Module) -> str:
    """The name of a plain network's classifier: its last linear layer."""
    return [name for name, module in network.named_modules() if isinstance(module, nn.Linear)][-1]
