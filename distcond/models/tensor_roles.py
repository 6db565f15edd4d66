"""Tensor roles: which tensors of a conditional network correspond to one tensor of the plain network."""

from __future__ import annotations

import re
from typing import NamedTuple

from torch import Tensor

_BRANCH = re.compile(r"(?:\.norms\.(?P<width>\d+))?\.(?P<route>clean|adv)(?=\.\w+$)")
_HEAD = re.compile(r"\.heads\.(?P<width>\d+)(?=\.\w+$)")


class TensorRole(NamedTuple):
    """A tensor's name in the plain network, and the width and path that it belongs to."""

    role: str
    width: int = 0
    route: bool | None = None  # True = adversarial path; None = both


class Candidate(NamedTuple):
    """A source tensor that could be copied."""

    role: TensorRole
    name: str  # in the source checkpoint
    tensor: Tensor


def role_of(name: str) -> TensorRole:
    """The role of a tensor in the network of any method, by its name."""
    branch, head = _BRANCH.search(name), _HEAD.search(name)
    if branch:
        return TensorRole(_BRANCH.sub("", name), int(branch["width"] or 0), branch["route"] == "adv")
    if head:
        return TensorRole(_HEAD.sub("", name), int(head["width"]))
    return TensorRole(name)


def choose_candidate(
    target: TensorRole, like: Tensor, full: Tensor, candidates: list[Candidate], route: bool
) -> Candidate | None:
    """The candidate to copy to one tensor; None if no shape fits.

    Prefers the target's own path, then its own shape over the full one (a narrower width takes the first channels),
    then the widest source.

    Args:
        target: role of the tensor.
        like: the tensor.
        full: the tensor of the same role in the plain network.
        candidates: source tensors of the same role.
        route: the path to copy from if the target belongs to both.
    """
    preferred = route if target.route is None else target.route
    usable = [each for each in candidates if each.tensor.shape in (like.shape, full.shape)]

    def distance(each: Candidate) -> tuple[bool, bool, int]:
        other_path = each.role.route not in (None, preferred)
        return other_path, each.tensor.shape != like.shape, each.role.width

    return min(usable, key=distance, default=None)
