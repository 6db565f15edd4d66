"""Reads a file of weights without running code from it, and finds the state dict in it.

Checkpoints wrap a state dict in dictionaries, prefixes and the normalisation of the input.
"""

from __future__ import annotations

import hashlib
import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from distcond.errors import ConfigError


def read_weights_file(path: Path) -> Any:
    """The content of a `.safetensors` file, or of a file of `torch.save`, on the CPU.

    Raises:
        ConfigError: it is neither, is damaged, or reading it would run code from it.
    """
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if not zipfile.is_zipfile(path) and path.read_bytes()[:1] != b"\x80":
        raise ConfigError("not readable: neither a file of torch.save nor named .safetensors")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        fix = "save its state_dict alone: torch.save(model.state_dict(), FILE)"
        raise ConfigError(f"holds more than tensors, which is not unpickled; {fix}") from error
    except Exception as error:  # a damaged file may raise anything
        raise ConfigError(f"not readable as a file of torch.save ({_first_line(error)})") from error


def _read_safetensors(path: Path) -> Any:
    try:
        from safetensors.torch import load_file
    except ImportError as error:
        raise ConfigError(
            f"safetensors cannot be imported ({error}); pip install safetensors, or give a .pth"
        ) from error
    try:
        return load_file(path)
    except Exception as error:  # the type differs between versions
        raise ConfigError(f"not readable as safetensors ({_first_line(error)})") from error


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__


#: Entries that hold a network, averaged ones first: if a checkpoint has both, its published accuracy is the average's.
NESTED = (
    "state_dict_ema", "ema_state_dict", "model_ema", "ema_model", "ema", "shadow", "shadow_params", "params_ema",
    "averaged_model", "swa_model", "swa_state_dict", "model_state_dict", "state_dict", "model", "net", "network",
    "module", "weights", "params", "best", "last",
)  # fmt: skip

#: Entries that hold tensors of something else.
_NOT_A_NETWORK = re.compile(r"optim|sched|scaler|amp|rng|buffer|momentum|grad|state$", re.IGNORECASE)
_MAX_DEPTH = 5

#: Prefixes of names: of DDP, torch.compile, a wrapper class, a Sequential of normalisation and network.
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "backbone.", "basic_net.", "0.", "1.")

_NORMALISATION = re.compile(r"(?:(?:normali[sz]\w*|norm|preprocess\w*)\.)?(?:new_)?(?P<kind>mean|mu|std|sigma)")
_KINDS = {"mean": "mean", "mu": "mean", "std": "std", "sigma": "std"}


class Weights(NamedTuple):
    """The tensors of a network, by names without prefixes."""

    tensors: dict[str, Tensor]
    mean: Tensor | None = None  # (3, 1, 1) for pixels in [0, 1]; None if the checkpoint has none
    std: Tensor | None = None
    entry: str = ""  # path of entries in the checkpoint, such as "state_dict"
    others: tuple[str, ...] = ()  # entries next to them that are no tensors
    classes: tuple[str, ...] = ()  # names in the order of the logits, if the checkpoint has them

    @property
    def digest(self) -> str:
        """16 hex digits from names and values; the same content has the same digest in any file."""
        tensors = self.tensors | {name: t for name, t in (("mean", self.mean), ("std", self.std)) if t is not None}
        hasher = hashlib.blake2b(digest_size=8)
        for name, tensor in sorted(tensors.items()):
            hasher.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
            hasher.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return hasher.digest().hex()


class _Network(NamedTuple):
    """A state dict by names without prefixes, the entries that lead to it, and entries next to its tensors."""

    tensors: dict[str, Tensor]
    entries: tuple[str, ...]
    others: tuple[str, ...]


def unwrap_weights(content: Any) -> Weights:
    """Find the network in the content of a file. `NESTED` decides between several.

    An average without running statistics is completed by the network next to it.

    Raises:
        ConfigError: no state dict, two networks under one name, or values that no network has.
    """
    networks = list(_networks(content))
    networks = [network for network in networks if _is_large(network.tensors)] or networks  # no counters of averages
    if not networks:
        raise ConfigError(f"holds no state dict but a {_describe(content)}; save model.state_dict()")
    network, *others = networks
    superset = next((other for other in others if set(other.tensors) > set(network.tensors)), network)
    tensors = superset.tensors | network.tensors
    for name, tensor in tensors.items():
        _check(name, tensor)
    levels = _levels(content, network.entries)
    weights = split_normalisation(tensors)
    if weights.mean is None:
        weights = _with_listed_normalisation(weights, levels)
    classes = next((names for level in levels if (names := _classes(level))), ())
    return weights._replace(entry=".".join(network.entries), others=network.others, classes=classes)


def _networks(content: Any, entries: tuple[str, ...] = ()) -> Iterator[_Network]:
    """Every network in a checkpoint, the preferred one first; under unknown names only large ones."""
    if not isinstance(content, Mapping) or len(entries) > _MAX_DEPTH:
        return
    named = [name for name in NESTED if isinstance(content.get(name), Mapping)]
    for name in named:
        yield from _networks(content[name], (*entries, name))
    tensors = {n: value for n, value in content.items() if isinstance(n, str) and isinstance(value, Tensor)}
    # Small tensors next to a network are its normalisation, or counters.
    if tensors and (not named or any(value.dim() > 1 and value.numel() > 3 for value in tensors.values())):
        others = tuple(str(name) for name in content if name not in tensors)
        yield _Network(_strip_prefixes(tensors), entries, others)
    for name, value in content.items():
        if (
            name not in named
            and isinstance(name, str)
            and isinstance(value, Mapping)
            and not _NOT_A_NETWORK.search(name)
        ):
            yield from (found for found in _networks(value, (*entries, name)) if _is_large(found.tensors))


def _is_large(tensors: Mapping[str, Tensor]) -> bool:
    return any(value.dim() > 1 and value.numel() > 3 for value in tensors.values())


def _levels(content: Any, entries: Sequence[str]) -> list[Mapping[Any, Any]]:
    """The dictionaries on the path to a network, innermost first."""
    levels = [content]
    for name in entries:
        levels.append(levels[-1][name])
    return levels[::-1]


def _with_listed_normalisation(weights: Weights, levels: Sequence[Mapping[Any, Any]]) -> Weights:
    """The weights with the mean and deviation that are listed as numbers next to the network."""
    for level in levels:
        numbers = {name: torch.tensor(v) for name, v in level.items() if isinstance(name, str) and _is_numbers(v)}
        pair = {name: value for name, value in numbers.items() if _NORMALISATION.fullmatch(name)}
        pair |= {n: v for n, v in level.items() if isinstance(v, Tensor) and _NORMALISATION.fullmatch(str(n))}
        found = split_normalisation(pair)
        if found.mean is not None:
            return weights._replace(mean=found.mean, std=found.std)
    return weights


def _is_numbers(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 3 and all(isinstance(v, int | float) for v in value)


def _classes(content: Mapping[Any, Any]) -> tuple[str, ...]:
    """Class names in the order of the logits, as training scripts store them next to a network."""
    numbers = content.get("class_to_idx")
    if isinstance(numbers, Mapping) and sorted(numbers.values()) == list(range(len(numbers))):
        return tuple(str(name) for name in sorted(numbers, key=lambda name: numbers[name]))
    named = content.get("classes", content.get("class_names"))
    if isinstance(named, list | tuple) and all(isinstance(name, str) for name in named):
        return tuple(named)
    return ()


def split_normalisation(tensors: dict[str, Tensor]) -> Weights:
    """Separate the mean and deviation of the input normalisation from the other tensors."""
    found: dict[str, tuple[str, Tensor]] = {}
    for name, tensor in tensors.items():
        match = _NORMALISATION.fullmatch(name)
        if match and tensor.numel() in (1, 3) and _KINDS[match["kind"]] not in found:
            found[_KINDS[match["kind"]]] = name, tensor.detach().float().reshape(-1, 1, 1).expand(3, 1, 1)
    units = _units(found["mean"][1], found["std"][1]) if set(found) == {"mean", "std"} else None
    # Only one of the two, or unclear units: do not guess. The tensor is listed as unused.
    if units is None:
        return Weights(tensors)
    if bool((found["std"][1] <= 0).any()):
        raise ConfigError(f"{found['std'][0]} has a deviation that is not above 0")
    used = {name for name, _ in found.values()}
    rest = {name: tensor for name, tensor in tensors.items() if name not in used}
    return Weights(rest, found["mean"][1] / units, found["std"][1] / units)


def _units(mean: Tensor, std: Tensor) -> float | None:
    """Pixel range of a mean and deviation: 1.0 for [0, 1], 255.0 for 0 to 255; None if unclear."""
    if bool((mean <= 1).all()) and bool((std <= 1).all()):
        return 1.0
    # A deviation above 1 is not of [0, 1]; a mean between 0 and 1 is not of 0 to 255.
    clear = bool((std > 1).all()) and bool((std <= 255).all()) and bool(((mean == 0) | (mean > 1)).all())
    return 255.0 if clear and bool((mean <= 255).all()) else None


def _check(name: str, tensor: Tensor) -> None:
    if tensor.layout != torch.strided or tensor.is_complex() or tensor.is_quantized:
        raise ConfigError(f"{name} is not a dense tensor of real numbers")
    if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
        raise ConfigError(f"{name} has values that are not finite")


def _strip_prefixes(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    names: dict[str, str] = {}
    for name in tensors:
        short = _strip_prefix(name)
        if short in names:
            raise ConfigError(f"holds two networks: {names[short]} and {name}; save one of them alone")
        names[short] = name
    return {short: tensors[name] for short, name in names.items()}


def _strip_prefix(name: str) -> str:
    while prefix := next((prefix for prefix in PREFIXES if name.startswith(prefix)), None):
        name = name.removeprefix(prefix)
    return name


def _describe(content: Any) -> str:
    if isinstance(content, Mapping):
        return f"dictionary of {', '.join(str(name) for name in list(content)[:6]) or 'nothing'}"
    return type(content).__name__
