"""Images of a request: encoded files or numbers, checked before they reach the network."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import torch
from torch import Tensor

from distcond.errors import ConfigError

IMAGE_TYPES = ("image/png", "image/jpeg", "image/webp")
#: Images in one JSON request.
MAX_IMAGES = 256


def largest_file(side: int) -> int:
    """Bytes that an encoded image may have: 16 a pixel and room for profiles."""
    return 2**20 + 16 * side**2


def decode_image(body: bytes, content_type: str, side: int) -> Tensor:
    """One encoded RGB or grey image, (1, 3, side, side) in [0, 1].

    Raises:
        ConfigError: it cannot be decoded, is in another format than it says, or has another size.
    """
    from PIL import Image

    kind = content_type.removeprefix("image/").upper()
    try:
        with Image.open(io.BytesIO(body), formats=(kind,)) as opened:
            if opened.size != (side, side):
                width, height = opened.size
                raise ConfigError(f"image: {width} x {height} pixels; needed {side} x {side}")
            if opened.mode not in ("RGB", "L", "P", "RGBA"):
                raise ConfigError(f"image: mode {opened.mode}; needed 8 bits a channel, RGB or grey")
            pixels = np.asarray(opened.convert("RGB"))
    except ConfigError:
        raise
    except Exception as error:  # Pillow raises many kinds for files that are broken
        raise ConfigError(f"image: not a readable {kind} ({type(error).__name__})") from error
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255


def decode_json(body: bytes, side: int) -> tuple[Tensor, dict[str, Any]]:
    """Images (n, 3, side, side) of a JSON body, and what else it says.

    Raises:
        ConfigError: no JSON object, other names, shapes or ranges.
    """
    try:
        values = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"body: no JSON ({error})") from error
    if not isinstance(values, dict) or "images" not in values:
        raise ConfigError('body: needed {"images": [...], "dial": 0.5}')
    unknown = sorted(values.keys() - {"images", "dial", "policy"})
    if unknown:
        raise ConfigError(f"body: unknown {', '.join(unknown)}; valid: images, dial, policy")
    try:
        images = np.asarray(values["images"])
        if images.dtype.kind not in "iuf":  # not booleans, nor the numbers that texts may hold
            raise TypeError(images.dtype)
    except (TypeError, ValueError, OverflowError) as error:
        raise ConfigError(f"images: numbers of shape (n, 3, {side}, {side}) needed") from error
    if images.ndim != 4 or images.shape[1:] != (3, side, side) or not 1 <= len(images) <= MAX_IMAGES:
        raise ConfigError(f"images: shape {images.shape}; needed (n, 3, {side}, {side}) with n from 1 to {MAX_IMAGES}")
    if not (np.isfinite(images).all() and images.min() >= 0 and images.max() <= 1):
        raise ConfigError("images: values outside [0, 1]")
    return torch.from_numpy(images.astype(np.float32)), values


def read_positions(value: Any, count: int) -> Tensor:
    """Positions (count,) of one number, or one per image.

    Raises:
        ConfigError: other types, another count, or outside [0, 1].
    """
    values = value if isinstance(value, list) else [value] * count
    if len(values) != count:
        raise ConfigError(f"dial: {len(values)} positions for {count} images")
    for number in values:
        if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number <= 1:
            raise ConfigError(f"dial={number}: must be a number in [0, 1]")
    return torch.tensor(values, dtype=torch.float32)
