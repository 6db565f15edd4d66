"""A pretended accelerator in one process: counts its kernels and waits, and refuses to mix its tensors with the host's.

Its tensors hold CPU data and claim to be on `cpu:0`, a device that torch keeps apart from `cpu`, as it keeps `cuda:0`
apart. So code that moves tensors between `device` and the host, or draws on either, does here what it does on a GPU.
Kernels are operations that compute: those that only view or allocate count as none, and a convolution with a bias as
two, as in cuDNN.
"""

from __future__ import annotations

import collections
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map

PRETENDED = torch.device("cpu", 0)
_SOURCES = str(Path(__file__).resolve().parents[2] / "distcond")
#: Operations whose result has a size or a value that the host must know.
_WAITS = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "_unique2", "unique_dim", "bincount"}
_INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_"}


class MixedDevicesError(AssertionError):
    """One operation has tensors of both devices."""


class DeviceTensor(Tensor):
    """A tensor that claims to be on the pretended device."""

    _data: Tensor

    @staticmethod
    def __new__(cls, data: Tensor) -> DeviceTensor:
        made: DeviceTensor = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, data.size(), strides=data.stride(), storage_offset=data.storage_offset(), dtype=data.dtype,
            layout=data.layout, device=PRETENDED, requires_grad=False,
        )  # fmt: skip
        return made

    def __init__(self, data: Tensor) -> None:
        self._data = data

    def __repr__(self, *, tensor_contents: object = None) -> str:
        return f"DeviceTensor({self._data})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise MixedDevicesError(f"{func}: a tensor of the pretended device outside `PretendedDevice`")


class PretendedDevice(TorchDispatchMode):
    """Within the block, tensors made on `PRETENDED` are `DeviceTensor`s.

    Attributes:
        kernels: launches by name of the operation.
        waits: what makes the host wait for the device, by operation and line of the package.
    """

    def __init__(self) -> None:
        super().__init__()
        self.kernels: collections.Counter[str] = collections.Counter()
        self.waits: collections.Counter[str] = collections.Counter()

    @property
    def launches(self) -> int:
        """Kernels launched so far."""
        return self.kernels.total()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = [value for value in tree_flatten((args, kwargs))[0] if isinstance(value, Tensor)]
        own = [tensor for tensor in tensors if isinstance(tensor, DeviceTensor)]
        target = kwargs.get("device")
        if not own and not _is_pretended(target):
            return func(*args, **kwargs)
        name = func._schema.name.split("::")[1]
        if name == "device":
            return PRETENDED
        others = [tensor for tensor in tensors if not isinstance(tensor, DeviceTensor)]
        self._note_waits(name, args, kwargs, own, others)
        self._refuse_mixed(name, own, others)
        if not _is_free(func, name):
            self.kernels[name] += 1 + (name == "convolution" and args[2] is not None)
        return _compute(func, args, kwargs, own, leaves=_leaves_device(name, own, target))

    def _note_waits(self, name: str, args: Any, kwargs: Any, own: list[Tensor], others: list[Tensor]) -> None:
        waits = name in _WAITS or _leaves_device(name, own, kwargs.get("device"))
        if name in ("_to_copy", "copy_") and any(other.dim() for other in others):
            waits = not (kwargs.get("non_blocking") or (len(args) > 2 and args[2]))
        if name in _INDEXING and own:
            indices = [index for index in args[1] if isinstance(index, Tensor)]
            # A mask must be counted first; an index of the host is copied first.
            waits = any(index.dtype == torch.bool or not isinstance(index, DeviceTensor) for index in indices)
        if waits:
            self.waits[f"{name} at {_line()}"] += 1

    def _refuse_mixed(self, name: str, own: list[Tensor], others: list[Tensor]) -> None:
        # CUDA takes 0-d tensors of the host as numbers.
        if own and any(other.dim() for other in others) and name not in ("copy_", *_INDEXING):
            shapes = [tuple(other.shape) for other in others if other.dim()]
            raise MixedDevicesError(f"{name}: tensors of the host {shapes} with the device's, at {_line()}")


@contextmanager
def pretended_device() -> Iterator[PretendedDevice]:
    """A pretended device; within the block `.to` replaces the parameters of a module, as it must here."""
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        with PretendedDevice() as device:
            yield device
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(before)


def to_device(tensor: Tensor) -> Tensor:
    """A copy on the pretended device, with the strides of `tensor`."""
    return DeviceTensor(tensor.clone())


def _compute(func: Any, args: Any, kwargs: Any, own: list[Tensor], leaves: bool) -> Any:
    on_host = {**kwargs, "device": torch.device("cpu")} if kwargs.get("device") is not None else kwargs
    plain_args, plain_kwargs = tree_map(_data_of, (args, on_host))
    out = func(*plain_args, **plain_kwargs)
    if leaves:
        return out.clone() if any(out is _data_of(tensor) for tensor in own) else out
    originals = {id(_data_of(tensor)): tensor for tensor in own}
    out = tree_map(lambda value: _wrap(value, originals), out)
    aliases = any(result.alias_info is not None for result in func._schema.returns)
    if aliases and not func._schema.name.startswith("aten::_foreach"):
        return return_and_correct_aliasing(func, args, kwargs, out)
    return out


def _wrap(value: Any, originals: dict[int, Tensor]) -> Any:
    """A result as a tensor of the device; one that an operation changed in place stays the same object."""
    if not isinstance(value, Tensor) or isinstance(value, DeviceTensor):
        return value
    return originals[id(value)] if id(value) in originals else DeviceTensor(value)


def _data_of(value: Any) -> Any:
    return value._data if isinstance(value, DeviceTensor) else value


def _is_pretended(device: Any) -> bool:
    return device is not None and torch.device(device) == PRETENDED


def _leaves_device(name: str, own: list[Tensor], target: Any) -> bool:
    return name == "_to_copy" and bool(own) and target is not None and not _is_pretended(target)


def _is_free(func: Any, name: str) -> bool:
    """Whether an operation launches nothing: a view, or memory without content."""
    returns = func._schema.returns
    is_view = bool(returns) and all(r.alias_info is not None and not r.alias_info.is_write for r in returns)
    return is_view or name.startswith(("empty", "new_empty", "sym_", "is_")) or name in ("_local_scalar_dense", "item")


def _line() -> str:
    """File and line of the innermost frame within the package."""
    frame: FrameType | None = sys._getframe()
    while frame is not None and not frame.f_code.co_filename.startswith(_SOURCES):
        frame = frame.f_back
    return "?" if frame is None else f"{frame.f_code.co_filename.removeprefix(_SOURCES)[1:]}:{frame.f_lineno}"
