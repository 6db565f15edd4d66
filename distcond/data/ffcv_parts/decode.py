"""Decoders for images of one size that need no compiler: a batch of raw ones is one gather from the mapped file.

FFCV's own decoders loop over the images, which is fast only when compiled; uncompiled they hold Python's lock for the
length of a batch. numpy's gather does the same at memory speed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from ffcv.fields.decoders import IntDecoder, SimpleRGBImageDecoder
from ffcv.fields.rgb_image import IMAGE_MODES

from distcond.data.ffcv_import import compiles
from distcond.data.ffcv_parts.jpeg import decode_jpeg


class Images(SimpleRGBImageDecoder):  # type: ignore[misc]
    """Images of one size, raw or JPEG, (n, H, W, 3) uint8. A file of raw images cut short raises IndexError."""

    def __init__(self, threads: int) -> None:
        super().__init__()
        self._threads = threads

    def generate_code(self) -> Callable[..., np.ndarray]:
        """What FFCV calls per batch."""
        modes, known = set(self.metadata["mode"].tolist()), {IMAGE_MODES["raw"], IMAGE_MODES["jpg"]}
        assert len(modes) == 1 and modes <= known, modes
        if modes == {IMAGE_MODES["jpg"]}:
            return decode_jpeg(self._threads)
        if compiles():
            return super().generate_code()
        return _gather(3 * int(self.metadata["height"][0]) * int(self.metadata["width"][0]))


def _gather(num_bytes: int) -> Callable[..., np.ndarray]:
    def decode(indices: np.ndarray, batch: np.ndarray, metadata: np.ndarray, storage: tuple[Any, ...]) -> Any:
        windows = np.lib.stride_tricks.sliding_window_view(storage[0], num_bytes)
        batch.reshape(len(indices), num_bytes)[:] = windows[metadata["data_ptr"][indices]]
        return batch

    return decode


class GatherInts(IntDecoder):  # type: ignore[misc]
    """Labels, (n, 1) int64."""

    def generate_code(self) -> Callable[..., np.ndarray]:
        """What FFCV calls per batch."""

        def decode(indices: np.ndarray, batch: np.ndarray, metadata: np.ndarray, storage: tuple[Any, ...]) -> Any:
            batch[:, 0] = metadata[indices]
            return batch

        return decode
