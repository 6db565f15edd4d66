"""Matches the tensors of a foreign network with those of one of ours, and says what has no counterpart."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from distcond.init_from.formats import KeyMapping
from distcond.models.tensor_roles import Candidate, choose_candidate, role_of

Shape = tuple[int, ...]

#: What a run's method makes itself, whatever the weights: its masks, its codes of lam.
_OWN = (".mask", ".clean_mask", ".adv_mask", "encode.choices", "encode.table")
_COUNTER = ".num_batches_tracked"


class TargetNetwork(NamedTuple):
    """The network that is to start somewhere."""

    state: Mapping[str, Tensor]  # of the conditional network
    plain: Mapping[str, Tensor]  # of the plain build of the same model; only shapes count
    head: str  # the classifier's name
    route: bool = False  # the path that a plain network takes after where the other has two


@dataclass(frozen=True)
class Match:
    """What goes where.

    Attributes:
        head: the classifier's name here.
        copies: by the name here, what to copy from there; larger tensors are cut to the first channels.
        anew: of the classifier, the shapes (there, here) that do not fit: it keeps its fresh start.
        unfit: the same of everything else.
        fresh: ours that nothing was found for.
        missing: those of them that are convolutions of the plain network.
        beyond: convolutions there whose place the model does not have.
        unused: everything there that is not copied.
        folded: biases there that running means took up: convolutions here have none.
    """

    convention: str
    head: str
    copies: dict[str, Candidate]
    anew: dict[str, tuple[Shape, Shape]]
    unfit: dict[str, tuple[Shape, Shape]]
    fresh: tuple[str, ...]
    missing: tuple[str, ...]
    beyond: tuple[str, ...]
    unused: tuple[str, ...]
    folded: tuple[str, ...]

    @property
    def fits(self) -> bool:
        """Whether every convolution here has its counterpart there and the other way round."""
        return not (self.unfit or self.missing or self.beyond)


def best_match(ours: TargetNetwork, theirs: Mapping[str, Tensor], conventions: Iterable[KeyMapping]) -> Match:
    """The match by the convention that brings most tensors together; of equals, one that leaves nothing open."""
    found = [match(ours, theirs, convention) for convention in conventions]
    return max(found, key=lambda each: (len(each.copies), -len(each.unfit), -len(each.unused)))


def match(ours: TargetNetwork, theirs: Mapping[str, Tensor], convention: KeyMapping) -> Match:
    """What goes where if `theirs` is named by `convention`."""
    names = convention.translate(theirs)
    tensors, folded = without_biases({here: theirs[there] for there, here in names.items()})
    origin = {here: there for there, here in names.items()}
    offered: dict[str, list[Candidate]] = defaultdict(list)
    for here, tensor in tensors.items():
        offered[role_of(here).role].append(Candidate(role_of(here), origin[here], tensor))
    copies = _copies(ours, tensors, offered, origin)
    unfit, known = _unfit(ours, copies, offered), {*ours.state, *ours.plain}
    taken = {candidate.name for candidate in copies.values()} | {origin[name] for name in folded}
    taken |= {origin[name] for name, tensor in tensors.items() if name.endswith(_OWN) and _same(ours, name, tensor)}
    fresh = tuple(name for name in ours.state if name not in copies and not name.endswith((*_OWN, _COUNTER)))
    return Match(
        convention=convention.name,
        head=ours.head,
        copies=copies,
        anew={name: shapes for name, shapes in unfit.items() if name.startswith(f"{ours.head}.")},
        unfit={name: shapes for name, shapes in unfit.items() if not name.startswith(f"{ours.head}.")},
        fresh=fresh,
        missing=tuple(name for name in ours.plain if _is_kernel(name, ours.plain) and name not in offered),
        beyond=tuple(origin[name] for name in tensors if _is_kernel(name, tensors) and role_of(name).role not in known),
        unused=tuple(name for name in theirs if name not in taken and not name.endswith(_COUNTER)),
        folded=tuple(origin[name] for name in folded),
    )


def _same(ours: TargetNetwork, name: str, tensor: Tensor) -> bool:
    return name in ours.state and torch.equal(ours.state[name].cpu(), tensor)


def _is_kernel(name: str, tensors: Mapping[str, Tensor]) -> bool:
    return name.endswith(".weight") and tensors[name].dim() == 4


def without_biases(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Tensors by our names, the biases of normalised convolutions moved into the running means, and their names.

    The same function in eval mode; in training a bias before a normalisation does nothing.
    """
    units = [name.removesuffix("conv.bias") for name in tensors if name.endswith("conv.bias")]
    means = {f"{unit}conv.bias": f"{unit}norm.running_mean" for unit in units}
    folded = {name: mean for name, mean in means.items() if mean in tensors}
    kept = {name: tensor for name, tensor in tensors.items() if name not in folded}
    return kept | {mean: tensors[mean] - tensors[name] for name, mean in folded.items()}, tuple(folded)


def _copies(
    ours: TargetNetwork,
    tensors: Mapping[str, Tensor],
    offered: Mapping[str, list[Candidate]],
    origin: Mapping[str, str],
) -> dict[str, Candidate]:
    copies: dict[str, Candidate] = {}
    for name, tensor in ours.state.items():
        place = role_of(name)
        if place.role in ours.plain:
            found = choose_candidate(place, tensor, ours.plain[place.role], offered.get(place.role, []), ours.route)
        else:
            same = name in tensors and tensors[name].shape == tensor.shape and not name.endswith(_OWN)
            found = Candidate(place, origin[name], tensors[name]) if same else None
        if found is not None:
            copies[name] = found
    return copies


def _unfit(
    ours: TargetNetwork, copies: Mapping[str, Candidate], offered: Mapping[str, list[Candidate]]
) -> dict[str, tuple[Shape, Shape]]:
    """Shapes (there, here) of what is in both networks and cannot be copied."""
    found: dict[str, tuple[Shape, Shape]] = {}
    for name, tensor in ours.state.items():
        role = role_of(name).role
        if role in ours.plain and name not in copies and role in offered:
            found[role] = tuple(offered[role][0].tensor.shape), tuple(ours.plain.get(role, tensor).shape)
    return found
