"""Matches the tensors of a checkpoint with those of a run's network, and lists those without a counterpart."""

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

#: Tensors that a run's method creates itself, never copied: masks and encodings of lam.
_METHOD_TENSORS = (".mask", ".clean_mask", ".adv_mask", "encode.choices", "encode.table")
_COUNTER = ".num_batches_tracked"


class TargetNetwork(NamedTuple):
    """The network to initialise."""

    state: Mapping[str, Tensor]  # of the conditional network
    plain: Mapping[str, Tensor]  # of the reference model; only shapes count
    head: str  # name of the classifier
    route: bool = False  # path to copy to a plain network, if the checkpoint has two: True = adversarial


@dataclass(frozen=True)
class Match:
    """Which tensors to copy where, and which tensors have no counterpart.

    Attributes:
        convention: name of the key mapping.
        head: name of the classifier here.
        copies: by the name here, the tensor to copy; larger ones are cut to the first channels.
        head_mismatches: of the classifier, shapes (there, here) that differ; it keeps its random initialisation.
        mismatches: the same of all other tensors; these make the match fail.
        fresh: tensors here without a counterpart.
        missing: those of them that are convolutions of the reference model.
        extra: convolutions there without a counterpart here.
        unused: tensors there that are not copied.
        folded: biases there that were folded into running means: convolutions here have no bias.
    """

    convention: str
    head: str
    copies: dict[str, Candidate]
    head_mismatches: dict[str, tuple[Shape, Shape]]
    mismatches: dict[str, tuple[Shape, Shape]]
    fresh: tuple[str, ...]
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    unused: tuple[str, ...]
    folded: tuple[str, ...]

    @property
    def fits(self) -> bool:
        """Whether every convolution here has a counterpart there, and vice versa."""
        return not (self.mismatches or self.missing or self.extra)


def best_match(ours: TargetNetwork, theirs: Mapping[str, Tensor], conventions: Iterable[KeyMapping]) -> Match:
    """The match by the key mapping that copies most tensors; of equals, the one with the fewest left over."""
    matches = [match(ours, theirs, convention) for convention in conventions]
    return max(matches, key=lambda each: (len(each.copies), -len(each.mismatches), -len(each.unused)))


def match(ours: TargetNetwork, theirs: Mapping[str, Tensor], convention: KeyMapping) -> Match:
    """Match the tensors of a checkpoint, `theirs`, by one key mapping."""
    names = convention.translate(theirs)
    tensors, folded = fold_biases({here: theirs[there] for there, here in names.items()})
    origin = {here: there for there, here in names.items()}
    offered: dict[str, list[Candidate]] = defaultdict(list)
    for here, tensor in tensors.items():
        offered[role_of(here).role].append(Candidate(role_of(here), origin[here], tensor))
    copies = _copies(ours, tensors, offered, origin)
    mismatches, known = _mismatches(ours, copies, offered), {*ours.state, *ours.plain}
    used = {candidate.name for candidate in copies.values()} | {origin[name] for name in folded}
    used |= {
        origin[name] for name, tensor in tensors.items() if name.endswith(_METHOD_TENSORS) and _same(ours, name, tensor)
    }
    fresh = tuple(name for name in ours.state if name not in copies and not name.endswith((*_METHOD_TENSORS, _COUNTER)))
    return Match(
        convention=convention.name,
        head=ours.head,
        copies=copies,
        head_mismatches={name: shapes for name, shapes in mismatches.items() if name.startswith(f"{ours.head}.")},
        mismatches={name: shapes for name, shapes in mismatches.items() if not name.startswith(f"{ours.head}.")},
        fresh=fresh,
        missing=tuple(name for name in ours.plain if _is_kernel(name, ours.plain) and name not in offered),
        extra=tuple(origin[name] for name in tensors if _is_kernel(name, tensors) and role_of(name).role not in known),
        unused=tuple(name for name in theirs if name not in used and not name.endswith(_COUNTER)),
        folded=tuple(origin[name] for name in folded),
    )


def _same(ours: TargetNetwork, name: str, tensor: Tensor) -> bool:
    return name in ours.state and torch.equal(ours.state[name].cpu(), tensor)


def _is_kernel(name: str, tensors: Mapping[str, Tensor]) -> bool:
    return name.endswith(".weight") and tensors[name].dim() == 4


def fold_biases(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Fold the biases of normalised convolutions into the running means.

    The function is the same in eval mode. In train mode a bias before a normalisation has no effect.

    Returns:
        Tensors by our names without those biases, and the names of the biases.
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
        role = role_of(name)
        if role.role in ours.plain:
            candidate = choose_candidate(role, tensor, ours.plain[role.role], offered.get(role.role, []), ours.route)
        else:
            same = name in tensors and tensors[name].shape == tensor.shape and not name.endswith(_METHOD_TENSORS)
            candidate = Candidate(role, origin[name], tensors[name]) if same else None
        if candidate is not None:
            copies[name] = candidate
    return copies


def _mismatches(
    ours: TargetNetwork, copies: Mapping[str, Candidate], offered: Mapping[str, list[Candidate]]
) -> dict[str, tuple[Shape, Shape]]:
    """Shapes (there, here) of tensors that both networks have and that cannot be copied."""
    shapes: dict[str, tuple[Shape, Shape]] = {}
    for name, tensor in ours.state.items():
        role = role_of(name).role
        if role in ours.plain and name not in copies and role in offered:
            shapes[role] = tuple(offered[role][0].tensor.shape), tuple(ours.plain.get(role, tensor).shape)
    return shapes
