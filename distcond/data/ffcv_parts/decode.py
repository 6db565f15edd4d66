"""Decoders for raw images of one size that need no compiler: a batch is one gather from the mapped file.

FFCV's own decoders loop over the images, which is fast only when compiled; uncompiled they hold Python's lock for the
length of a batch. numpy's gather does the same at memory speed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from ffcv.fields.decoders import IntDecoder, SimpleRGBImageDecoder
from ffcv.fields.rgb_image import IMAGE_MODES


class GatherImages(SimpleRGBImageDecoder):  # type: ignore[misc]
    """Raw images of one size, (n, H, W, 3) uint8. A file cut short raises IndexError."""

    def generate_code(self) -> Callable[..., np.ndarray]:
        """What FFCV calls per batch."""
        assert (self.metadata["mode"] == IMAGE_MODES["raw"]).all(), "not written raw"
        num_bytes = 3 * int(self.metadata["height"][0]) * int(self.metadata["width"][0])

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
