"""Tensor names: which tensors of a conditional network play the role of one tensor of the plain network."""

from __future__ import annotations

import re
from typing import NamedTuple

from torch import Tensor

_BRANCH = re.compile(r"(?:\.norms\.(?P<width>\d+))?\.(?P<route>clean|adv)(?=\.\w+$)")
_HEAD = re.compile(r"\.heads\.(?P<width>\d+)(?=\.\w+$)")


class TensorRole(NamedTuple):
    """A tensor's name in the plain build of the model, and for which width and path it holds."""

    role: str
    width: int = 0
    route: bool | None = None  # True = adversarial path; None = of both


class Candidate(NamedTuple):
    """A tensor that could be copied, by its name where it comes from."""

    place: TensorRole
    name: str
    tensor: Tensor


def role_of(name: str) -> TensorRole:
    """The part a tensor of any method's network plays."""
    branch, head = _BRANCH.search(name), _HEAD.search(name)
    if branch:
        return TensorRole(_BRANCH.sub("", name), int(branch["width"] or 0), branch["route"] == "adv")
    if head:
        return TensorRole(_HEAD.sub("", name), int(head["width"]))
    return TensorRole(name)


def choose_candidate(
    place: TensorRole, like: Tensor, full: Tensor, candidates: list[Candidate], route: bool
) -> Candidate | None:
    """What to copy to one tensor: of its own path, else of the path `route`; of its own shape, else the full one.

    Args:
        place: of the tensor.
        like: the tensor.
        full: the same part in the plain network: a narrower width takes the first channels of it.
        candidates: tensors that play the same part.
        route: the path that a network without paths takes after.
    """
    wanted = route if place.route is None else place.route
    usable = [each for each in candidates if each.tensor.shape in (like.shape, full.shape)]

    def distance(each: Candidate) -> tuple[bool, bool, int]:
        other_path = each.place.route not in (None, wanted)
        return other_path, each.tensor.shape != like.shape, each.place.width

    return min(usable, key=distance, default=None)
