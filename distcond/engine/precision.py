"""Number format and memory layout, chosen by what the device is fast at unless told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch

from distcond.config.schema import PrecisionConfig


def autocast_dtype(precision: PrecisionConfig, device: torch.device) -> torch.dtype | None:
    """bfloat16 where asked for or where "auto" finds hardware for it, otherwise None (float32)."""
    if precision.train == "float32":
        return None
    return torch.bfloat16 if precision.train == "bf16" or fast_bf16(device) else None


def memory_format(precision: PrecisionConfig, device: torch.device) -> torch.memory_format:
    """channels_last unless contiguous was asked for: faster on every device measured."""
    return torch.contiguous_format if precision.layout == "contiguous" else torch.channels_last


def fast_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 in hardware (Ampere or later; AVX512-BF16 or AMX on a CPU)."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    probes = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(probe is not None and probe() for probe in probes)


@contextmanager
def training_numbers(precision: PrecisionConfig, device: torch.device) -> Iterator[None]:
    """Within the block training in float32 is float32 on a GPU, too; under autocast all is left as it was."""
    with nullcontext() if autocast_dtype(precision, device) is not None else full_float32():
        yield


@contextmanager
def full_float32() -> Iterator[None]:
    """Float32 that is float32: cuDNN convolves in TF32 (10 bits of mantissa) unless told otherwise."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before
