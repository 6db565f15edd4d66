"""A plain network as a folder: `model.safetensors` and `config.json`, written and read back.

The folder has the layout of the Hugging Face hub. Reading it runs no code from it.
"""

from __future__ import annotations

import dataclasses
import json
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import torch
from torch import fx, nn

from distcond.atomic_io import read_json
from distcond.errors import ConfigError
from distcond.layers.layer_set import plain_layers
from distcond.mixednuts import Mix
from distcond.models.conditional import ConditionalModel
from distcond.models.dial import MixedNuts, OutputBlend
from distcond.models.model import Model
from distcond.models.plain_network import fold, trace_blend
from distcond.operating_point import OUTPUT_BLENDS
from distcond.registry import lookup

WEIGHTS_FILE, CONFIG_FILE = "model.safetensors", "config.json"
FORMAT, VERSION = "distcond-plain-network", 1


@dataclasses.dataclass(frozen=True)
class ExportConfig:
    """What `config.json` holds: how to build the network, which operating point it is, and where it comes from.

    Attributes:
        architecture: name of the model.
        options: its settings.
        num_classes: K.
        image_size: of the images it was trained on, in pixels; they are RGB in [0, 1], normalised inside.
        classes: names in the order of the logits; empty where unknown.
        operating_point: lam, blend, t, width, noise_seed.
        keep_norm: whether batch normalisation follows every convolution.
        mix: numbers of MixedNUTS' transformation, of such a blend.
        provenance: run ID, recipe, commits, data fingerprint, seed.
    """

    architecture: str
    options: dict[str, Any]
    num_classes: int
    image_size: int
    classes: tuple[str, ...]
    operating_point: dict[str, Any]
    keep_norm: bool
    mix: dict[str, float] | None
    provenance: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """The value of `config.json`."""
        return {"format": FORMAT, "version": VERSION, "library_name": "distcond", **dataclasses.asdict(self)}


def require_safetensors() -> Any:
    """`safetensors.torch`.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return import_module("safetensors.torch")
    except ImportError as error:
        raise ConfigError("safetensors is not installed: pip install 'distcond[export]'") from error


def write_folder(network: nn.Module, config: ExportConfig, folder: Path) -> None:
    """Write weights and `config.json` into an existing folder."""
    safetensors = require_safetensors()
    state = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    (folder / WEIGHTS_FILE).write_bytes(
        safetensors.save(state, metadata={"format": "pt"})
    )  # save_file makes it private
    (folder / CONFIG_FILE).write_text(json.dumps(config.to_json(), indent=1) + "\n", encoding="utf-8")


def is_exported(folder: Path) -> bool:
    """Whether a folder holds an export."""
    return (folder / WEIGHTS_FILE).is_file() and (folder / CONFIG_FILE).is_file()


def read_config(folder: Path) -> ExportConfig:
    """What an export says of itself.

    Raises:
        ConfigError: no export of this format and version, or a damaged one.
    """
    values = read_json(folder / CONFIG_FILE)
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise ConfigError(f"{folder / CONFIG_FILE}: not an export of distcond (format={FORMAT} is missing)")
    if values.get("version") != VERSION:
        raise ConfigError(f"{folder / CONFIG_FILE}: version {values.get('version')!r}; this distcond reads {VERSION}")
    names = [field.name for field in dataclasses.fields(ExportConfig)]
    missing = [name for name in names if name not in values]
    if missing:
        raise ConfigError(f"{folder / CONFIG_FILE}: {', '.join(missing)} missing; export the network again")
    return ExportConfig(**{name: values[name] for name in names} | {"classes": tuple(values["classes"])})


def read_folder(folder: Path, device: torch.device | str = "cpu") -> fx.GraphModule:
    """The plain network of an export, in eval mode: x in [0, 1] (N, 3, H, W) to logits (N, K).

    Raises:
        ConfigError: no export there, a damaged one, or one of an architecture that this version does not have.
    """
    config = read_config(folder)
    network = _skeleton(config, folder)
    try:
        state = require_safetensors().load_file(folder / WEIGHTS_FILE, device=str(device))
    except (OSError, ValueError, RuntimeError, _safetensors_error()) as error:
        raise ConfigError(f"{folder / WEIGHTS_FILE}: not readable ({error}); export the network again") from error
    _fit_shapes(network, state)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{folder / WEIGHTS_FILE}: does not fit {CONFIG_FILE} ({reason})") from error
    return network.to(device).eval().requires_grad_(False)


def _safetensors_error() -> type[Exception]:
    return cast("type[Exception]", import_module("safetensors").SafetensorError)


def _skeleton(config: ExportConfig, folder: Path) -> fx.GraphModule:
    """The network at full width, with whatever weights."""
    point = config.operating_point
    try:
        known: Model = lookup("model", config.architecture)
        options: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in config.options.items()
        }
        backbone = known.build(plain_layers(), config.num_classes, dataclasses.replace(known.options, **options))
        blend, t = str(point["blend"]), float(point["t"])
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{folder / CONFIG_FILE}: damaged ({error}); export the network again") from error
    model = ConditionalModel(backbone).eval()
    if blend not in OUTPUT_BLENDS or t in (0, 1):
        return fold(model, 0.0, keep_norm=config.keep_norm, narrow=False)
    clean, robust = (fold(model, 0.0, keep_norm=config.keep_norm, narrow=False) for _ in range(2))
    if config.mix is None:
        return trace_blend(OutputBlend(clean, robust, t))
    return trace_blend(MixedNuts(clean, robust, t, Mix(**config.mix)))


def _fit_shapes(network: nn.Module, state: dict[str, torch.Tensor]) -> None:
    """Give every layer the numbers of channels that its saved tensors have."""
    for name, layer in network.named_modules():
        weight = state.get(f"{name}.weight")
        if weight is None or not isinstance(layer, nn.Conv2d | nn.BatchNorm2d | nn.Linear):
            continue
        if isinstance(layer, nn.Conv2d):
            layer.out_channels, layer.in_channels = weight.shape[:2]
        elif isinstance(layer, nn.Linear):
            layer.out_features, layer.in_features = weight.shape
        else:
            layer.num_features = len(weight)
        for key, old in (*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)):
            saved = state.get(f"{name}.{key}")
            if saved is not None and saved.shape != old.shape:
                new = torch.empty_like(saved)
                setattr(layer, key, nn.Parameter(new) if isinstance(old, nn.Parameter) else new)
        bias = state.get(f"{name}.bias")  # narrowing may have given a convolution one
        if isinstance(layer, nn.Conv2d) and layer.bias is None and bias is not None:
            layer.bias = nn.Parameter(torch.empty_like(bias))
