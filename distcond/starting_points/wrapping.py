"""What checkpoints put around a state dict: dictionaries, prefixes of wrappers, the normalisation of the input."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from distcond.errors import ConfigError

#: Entries that hold a network, the averaged one first: where a checkpoint has both, that is the one it was judged by.
NESTED = (
    "state_dict_ema", "ema_state_dict", "model_ema", "ema_model", "ema", "swa_state_dict", "model_state_dict",
    "state_dict", "model", "net", "network", "weights", "params", "best", "last",
)  # fmt: skip

#: In front of names: DDP, torch.compile, a class around the network, a Sequential of normalisation and network.
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "backbone.", "basic_net.", "0.", "1.")

_NORMALISATION = re.compile(r"(?:(?:normali[sz]\w*|norm|preprocess\w*)\.)?(?:new_)?(?P<kind>mean|mu|std|sigma)")
_KINDS = {"mean": "mean", "mu": "mean", "std": "std", "sigma": "std"}


class Weights(NamedTuple):
    """A network's tensors by their bare names."""

    tensors: dict[str, Tensor]
    mean: Tensor | None = None  # (3, 1, 1) in units of [0, 1]: the network normalises its input itself
    std: Tensor | None = None
    entry: str = ""  # the entries of the checkpoint they were found under, such as "state_dict"
    others: tuple[str, ...] = ()  # entries beside them that are no tensors
    classes: tuple[str, ...] = ()  # names in the order of the logits, where the checkpoint says

    @property
    def digest(self) -> str:
        """16 hex digits of names and values: the same content has the same digest in any file."""
        found = self.tensors | {name: t for name, t in (("mean", self.mean), ("std", self.std)) if t is not None}
        hasher = hashlib.blake2b(digest_size=8)
        for name, tensor in sorted(found.items()):
            hasher.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
            hasher.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return hasher.digest().hex()


def unwrapped(content: Any) -> Weights:
    """The network in what a file holds.

    Raises:
        ConfigError: no state dict in it, two networks under one name, or numbers that no network has.
    """
    entries: list[str] = []
    classes: tuple[str, ...] = ()
    while isinstance(content, Mapping):
        classes = classes or _classes(content)
        entry = _entry(content)
        if entry is None:
            break
        entries.append(entry)
        content = content[entry]
    if not isinstance(content, Mapping) or not any(isinstance(value, Tensor) for value in content.values()):
        raise ConfigError(f"holds no state dict but a {_described(content)}; save model.state_dict()")
    tensors = {n: value for n, value in content.items() if isinstance(n, str) and isinstance(value, Tensor)}
    others = tuple(str(name) for name in content if name not in tensors)
    for name, tensor in tensors.items():
        _check(name, tensor)
    return normalised(_bare(tensors))._replace(entry=".".join(entries), others=others, classes=classes)


def _classes(content: Mapping[Any, Any]) -> tuple[str, ...]:
    """Names in the order of the logits, as training scripts keep them beside a network."""
    numbers = content.get("class_to_idx")
    if isinstance(numbers, Mapping) and sorted(numbers.values()) == list(range(len(numbers))):
        return tuple(str(name) for name in sorted(numbers, key=lambda name: numbers[name]))
    named = content.get("classes", content.get("class_names"))
    if isinstance(named, list | tuple) and all(isinstance(name, str) for name in named):
        return tuple(named)
    return ()


def normalised(tensors: dict[str, Tensor]) -> Weights:
    """The tensors without the mean and deviation that the input is normalised by, and these."""
    found: dict[str, tuple[str, Tensor]] = {}
    for name, tensor in tensors.items():
        match = _NORMALISATION.fullmatch(name)
        if match and tensor.numel() in (1, 3) and _KINDS[match["kind"]] not in found:
            found[_KINDS[match["kind"]]] = name, tensor.detach().float().reshape(-1, 1, 1).expand(3, 1, 1)
    # In units of 0 to 255, or half of a pair: not ours to guess. It stays among the tensors and is listed as unused.
    if set(found) != {"mean", "std"} or bool((torch.stack([t for _, t in found.values()]) > 1).any()):
        return Weights(tensors)
    if bool((found["std"][1] <= 0).any()):
        raise ConfigError(f"{found['std'][0]} holds a deviation that is not above 0")
    used = {name for name, _ in found.values()}
    rest = {name: tensor for name, tensor in tensors.items() if name not in used}
    return Weights(rest, found["mean"][1], found["std"][1])


def _check(name: str, tensor: Tensor) -> None:
    if tensor.layout != torch.strided or tensor.is_complex() or tensor.is_quantized:
        raise ConfigError(f"{name} is no tensor of plain real numbers")
    if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
        raise ConfigError(f"{name} holds numbers that are not finite")


def _entry(content: Mapping[Any, Any]) -> str | None:
    return next((name for name in NESTED if isinstance(content.get(name), Mapping)), None)


def _bare(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    bare: dict[str, str] = {}
    for name in tensors:
        short = _without_prefixes(name)
        if short in bare:
            raise ConfigError(f"holds two networks: {bare[short]} and {name}; save one of them alone")
        bare[short] = name
    return {short: tensors[name] for short, name in bare.items()}


def _without_prefixes(name: str) -> str:
    while prefix := next((prefix for prefix in PREFIXES if name.startswith(prefix)), None):
        name = name.removeprefix(prefix)
    return name


def _described(content: Any) -> str:
    if isinstance(content, Mapping):
        return f"dictionary of {', '.join(str(name) for name in list(content)[:6]) or 'nothing'}"
    return type(content).__name__
