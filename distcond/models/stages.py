"""Depths and widths of a network's stages, checked."""

from __future__ import annotations

from distcond.errors import ConfigError


def stages(depths: tuple[int, ...], widths: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """(depth, width) of each stage.

    Raises:
        ConfigError: other numbers of depths and widths, or none.
    """
    if len(depths) != len(widths) or not depths:
        given = f"model.depths={depths} with model.widths={widths}"
        raise ConfigError(f"{given}: give one of each per stage, such as model.depths=2,2 model.widths=16,32")
    return tuple(zip(depths, widths, strict=True))
