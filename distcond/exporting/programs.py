"""A plain network as a program that runs without distcond: `.pt2` (torch.export) and ONNX, checked after writing."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from distcond.errors import ConfigError

PT2_FILE, ONNX_FILE = "model.pt2", "model.onnx"
#: Largest difference of logits that a program may show, relative to the largest logit.
TOLERANCE = 1e-4

_log = logging.getLogger(__name__)


def write_pt2(network: nn.Module, path: Path, image_size: int) -> None:
    """Write the network as a program of `torch.export` whose batch may be of any size; `torch.export.load` reads it.

    Raises:
        RuntimeError: the program gives other logits.
    """
    batch = {0: torch.export.Dim("batch", min=1)}
    program = torch.export.export(network, (_images(2, image_size),), dynamic_shapes=(batch,))
    file = io.BytesIO()  # torch's own writer hides why a disk refuses
    torch.export.save(program, file)
    path.write_bytes(file.getvalue())
    _check("pt2", network, torch.export.load(path).module(), image_size)


def require_onnx() -> Any:
    """`onnxruntime`.

    Raises:
        ConfigError: it, onnx or onnxscript is not installed.
    """
    try:
        for name in ("onnx", "onnxscript"):
            import_module(name)
        return import_module("onnxruntime")
    except ImportError as error:
        raise ConfigError(f"formats=onnx: {error.name} is not installed: pip install 'distcond[export]'") from error


def write_onnx(network: nn.Module, path: Path, image_size: int) -> None:
    """Write the network as ONNX: input `image` (batch, 3, H, W) in [0, 1], output `logits` (batch, K).

    Raises:
        ConfigError: onnx, onnxscript or onnxruntime is not installed.
        RuntimeError: onnxruntime gives other logits.
    """
    runtime = require_onnx()
    with _quiet():
        torch.onnx.export(
            network, (_images(2, image_size),), path, dynamo=True, external_data=False, verbose=False,
            input_names=["image"], output_names=["logits"], dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
        )  # fmt: skip
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def run(x: Tensor) -> Tensor:
        return torch.from_numpy(session.run(["logits"], {"image": x.numpy()})[0])

    _check("onnx", network, run, image_size)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's notes on its own passes and its own deprecations."""
    loggers = [logging.getLogger(name) for name in ("onnxscript", "onnx_ir", "torch.onnx")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.WARNING)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@torch.no_grad()
def _check(what: str, network: nn.Module, program: Any, image_size: int) -> None:
    """See that a program gives the network's logits at batch sizes it was not traced with."""
    for count in (1, 5):
        x = _images(count, image_size)
        expected, found = network(x), program(x)
        difference = float((expected - found).abs().max() / expected.abs().max().clamp(min=1))
        if not difference <= TOLERANCE:
            raise RuntimeError(f"{what}: logits differ by {difference:.2g} from the network's")
        _log.debug("%s: logits differ by %.2g at batch %d", what, difference, count)


def _images(count: int, size: int) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(count))
