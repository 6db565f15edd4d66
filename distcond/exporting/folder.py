"""A plain network as a folder: `model.safetensors` and `config.json`, written and read back.

The folder has the layout of the Hugging Face hub. Reading it runs no code from it.
"""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, cast, get_type_hints

import torch
from torch import fx, nn

from distcond.atomic_io import read_json
from distcond.config.fields import check_bounds, parse_value
from distcond.config.schema import Options
from distcond.errors import ConfigError
from distcond.layers.layer_set import plain_layers
from distcond.mixednuts import Mix
from distcond.models.conditional import ConditionalModel
from distcond.models.dial import MixedNuts, OutputBlend
from distcond.models.model import Model
from distcond.models.plain_network import fold, trace_blend
from distcond.operating_point import BLENDS, OUTPUT_BLENDS
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


def write_weights(network: nn.Module, folder: Path) -> None:
    """Write `model.safetensors` into an existing folder."""
    safetensors = require_safetensors()
    state = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    (folder / WEIGHTS_FILE).write_bytes(
        safetensors.save(state, metadata={"format": "pt"})
    )  # save_file makes it private


def write_config(config: ExportConfig, folder: Path) -> None:
    """Write `config.json` into an existing folder."""
    (folder / CONFIG_FILE).write_text(json.dumps(config.to_json(), indent=1) + "\n", encoding="utf-8")


def is_exported(folder: Path) -> bool:
    """Whether a folder holds an export."""
    return (folder / WEIGHTS_FILE).is_file() and (folder / CONFIG_FILE).is_file()


def read_config(folder: Path) -> ExportConfig:
    """What an export says of itself.

    Raises:
        ConfigError: no export of this format and version, or a damaged one.
    """
    try:
        values = read_json(folder / CONFIG_FILE)
    except (OSError, RecursionError) as error:
        raise ConfigError(f"{folder / CONFIG_FILE}: not readable ({error})") from error
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise ConfigError(f"{folder / CONFIG_FILE}: not an export of distcond (format={FORMAT} is missing)")
    if values.get("version") != VERSION:
        raise ConfigError(f"{folder / CONFIG_FILE}: version {values.get('version')!r}; this distcond reads {VERSION}")
    names = [field.name for field in dataclasses.fields(ExportConfig)]
    missing = [name for name in names if name not in values]
    if missing:
        raise ConfigError(f"{folder / CONFIG_FILE}: {', '.join(missing)} missing; export the network again")
    wrong = [name for name in names if not _FORMS[name](values[name])]
    if wrong:
        raise ConfigError(f"{folder / CONFIG_FILE}: damaged ({', '.join(wrong)}); export the network again")
    return ExportConfig(**{name: values[name] for name in names} | {"classes": tuple(values["classes"])})


def _is_count(value: Any, largest: int = 2**20) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= largest


def _is_number(value: Any, low: float = -math.inf, high: float = math.inf) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def _is_place(value: Any) -> bool:
    numbers = isinstance(value, dict) and all(_is_number(value.get(name), 0, 1) for name in ("lam", "t"))
    return numbers and value.get("blend") in BLENDS


def _is_mix(value: Any) -> bool:
    return value is None or (
        isinstance(value, dict) and sorted(value) == sorted(Mix._fields) and all(map(_is_number, value.values()))
    )


#: Whether a value of `config.json` is of the form that `to_json` gives it: the file may come from anyone.
_FORMS: dict[str, Callable[[Any], bool]] = {
    "architecture": lambda value: isinstance(value, str),
    "options": lambda value: isinstance(value, dict),
    "num_classes": _is_count,
    "image_size": lambda value: _is_count(value, 2**14),
    "classes": lambda value: isinstance(value, list) and all(isinstance(name, str) for name in value),
    "operating_point": _is_place,
    "keep_norm": lambda value: isinstance(value, bool),
    "mix": _is_mix,
    "provenance": lambda value: isinstance(value, dict),
}


def read_folder(folder: Path, device: torch.device | str = "cpu") -> fx.GraphModule:
    """The plain network of an export, in eval mode: x in [0, 1] (N, 3, H, W) to logits (N, K).

    Raises:
        ConfigError: no export there, a damaged one, or one of an architecture that this version does not have.
    """
    config = read_config(folder)
    try:
        state = require_safetensors().load_file(folder / WEIGHTS_FILE, device=str(device))
    except (OSError, ValueError, RuntimeError, _safetensors_error()) as error:
        raise ConfigError(f"{folder / WEIGHTS_FILE}: not readable ({error}); export the network again") from error
    try:
        # Without memory and by its shapes alone: sizes in the file cost nothing before they fit the weights.
        with torch.device("meta"):
            network = _skeleton(config, len(state))
        _fit_shapes(network, state)
        _check_fit(network, state, config)
        network.load_state_dict(state, assign=True)
    except Exception as error:  # whatever building a model from numbers of others may raise
        reason = " ".join(str(error).split())
        raise ConfigError(f"{folder / WEIGHTS_FILE}: does not fit {CONFIG_FILE} ({reason})") from error
    return network.eval().requires_grad_(False)


def _safetensors_error() -> type[Exception]:
    return cast("type[Exception]", import_module("safetensors").SafetensorError)


def _skeleton(config: ExportConfig, tensors: int) -> fx.GraphModule:
    """The network at full width; `tensors` is the number of those that were saved, a bound of its layers."""
    known = _known_model(config.architecture)
    backbone = known.build(plain_layers(), config.num_classes, _options(known, config.options, tensors))
    model = ConditionalModel(backbone).eval()
    blend, t = config.operating_point["blend"], float(config.operating_point["t"])
    if blend not in OUTPUT_BLENDS or t in (0, 1):
        return fold(model, 0.0, keep_norm=config.keep_norm, narrow=False)
    clean, robust = (fold(model, 0.0, keep_norm=config.keep_norm, narrow=False) for _ in range(2))
    if config.mix is None:
        return trace_blend(OutputBlend(clean, robust, t))
    return trace_blend(MixedNuts(clean, robust, t, Mix(**config.mix)))


def _known_model(name: str) -> Model:
    """The model of this name; code that is not imported yet is not imported because a file says so.

    Raises:
        ConfigError: there is none, or it is code of its own that is not imported.
    """
    module, own, attribute = name.partition(":")
    if own and attribute not in vars(sys.modules.get(module, object)):
        raise ConfigError(f"architecture {name}: a model of its own, which is not imported from here: import {module}")
    model: Model = lookup("model", name)
    return model


def _options(known: Model, values: dict[str, Any], tensors: int) -> Options:
    """The settings of a model, of their types and within their bounds.

    Raises:
        ConfigError: other names, types or values.
    """
    fields = {field.name: field for field in dataclasses.fields(known.options)}
    types, options = get_type_hints(type(known.options)), dict[str, Any]()
    for name, value in values.items():
        if name not in fields:
            raise ConfigError(f"options: unknown {name}")
        options[name] = parse_value(name, value, types[name])
        check_bounds(name, options[name], fields[name].metadata)
        numbers = options[name] if isinstance(options[name], tuple) else (options[name],)
        sizes = [number for number in numbers if isinstance(number, int)]
        # Every block has a saved tensor.
        if len(sizes) > tensors or max(sizes, default=0) > 2**16 or ("depth" in name and sum(sizes) > tensors):
            raise ConfigError(f"options: {name}={value} for {tensors} tensors")
    return dataclasses.replace(known.options, **options)


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
                new = torch.empty_like(saved, device=old.device)
                setattr(layer, key, nn.Parameter(new) if isinstance(old, nn.Parameter) else new)
        bias = state.get(f"{name}.bias")  # narrowing may have given a convolution one
        if isinstance(layer, nn.Conv2d) and layer.bias is None and bias is not None:
            layer.bias = nn.Parameter(torch.empty_like(bias, device=layer.weight.device))


def _check_fit(network: nn.Module, state: dict[str, torch.Tensor], config: ExportConfig) -> None:
    """See that the saved tensors are those of the network, and that its layers fit each other.

    Raises:
        ConfigError: they do not.
    """
    needed = network.state_dict()
    wrong = sorted(needed.keys() ^ state.keys())
    wrong += [
        n for n in needed if n in state and (needed[n].shape, needed[n].dtype) != (state[n].shape, state[n].dtype)
    ]
    if wrong:
        raise ConfigError(f"missing, unexpected or of another form: {', '.join(wrong[:5])}")
    with torch.no_grad():
        logits = network(torch.empty(1, 3, config.image_size, config.image_size, device="meta"))
    if logits.shape != (1, config.num_classes):
        raise ConfigError(f"logits of shape {tuple(logits.shape)} for {config.num_classes} classes")
