"""What the tensors of a pair are called, and which of them are one network's."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from distcond.starting_points.places import place_of


def side_by_side(
    clean: Mapping[str, Tensor], robust: Mapping[str, Tensor], names: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The state of a pair's backbone, of the `names` that it has, from those of two plain ones."""
    places = {name: place_of(name) for name in names}
    return {name: (robust if place.route else clean)[place.role] for name, place in places.items()}


def apart(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The states of the clean and the robust plain backbone in that of a pair's."""
    places = {name: place_of(name) for name in state}
    clean, robust = ({p.role: state[n] for n, p in places.items() if p.route is route} for route in (False, True))
    return clean, robust
