"""FFCV's decoders and reader thread, replaced: no compiler needed, exact JPEG, an end that is clean and loud.

FFCV's own decoders loop over the images, which is fast only when compiled; numpy's gather from the mapped file does the
same at memory speed. Its JPEG decoder takes libjpeg-turbo's inexact transform, up to 10 of 255 away from Pillow's
pixels, for no gain in time; this one calls the same library with the exact transform, bit for bit as Pillow.
Imports FFCV at the top: import this module lazily.
"""

from __future__ import annotations

import ctypes
import queue
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import ffcv._libffcv
import numpy as np
from ffcv.fields.decoders import IntDecoder, SimpleRGBImageDecoder
from ffcv.fields.rgb_image import IMAGE_MODES
from ffcv.loader import Loader
from ffcv.loader.epoch_iterator import EpochIterator
from torch import Tensor

from distcond.data.ffcv.source import mark_uncompiled, numba_compiles

#: turbojpeg.h: TJPF_RGB, TJFLAG_ACCURATEDCT | TJFLAG_NOREALLOC, TJERR_WARNING.
_RGB, _FLAGS, _WARNING = 0, 4096 | 1024, 0


def decode_jpeg(threads: int) -> Callable[..., np.ndarray]:
    """What FFCV calls per batch of JPEG images of one size; `threads` threads decode, and hold no lock of Python's."""

    def decode(indices: np.ndarray, batch: np.ndarray, metadata: np.ndarray, storage: tuple[Any, ...]) -> Any:
        mapped, pointers, sizes = storage
        begins = metadata["data_ptr"][indices]
        lengths = sizes[np.searchsorted(pointers, begins)]
        blobs = [mapped[begin : begin + length] for begin, length in zip(begins, lengths, strict=True)]
        if threads == 1:
            _decode_blobs(blobs, batch)
            return batch
        # Threads of the batch: a pool that outlives it would have to be ended by whoever drops the loader.
        with ThreadPoolExecutor(threads) as pool:
            for done in [
                pool.submit(_decode_blobs, blobs[part::threads], batch[part::threads]) for part in range(threads)
            ]:
                done.result()
        return batch

    return mark_uncompiled(decode)


def _decode_blobs(blobs: list[np.ndarray], out: np.ndarray) -> None:
    library = _turbojpeg()
    handle = library.tjInitDecompress()
    try:
        for blob, image in zip(blobs, out, strict=True):
            height, width, _ = image.shape
            failed = library.tjDecompress2(
                handle, blob.ctypes.data, len(blob), image.ctypes.data, width, 0, height, _RGB, _FLAGS
            )
            # A warning is what Pillow passes over too.
            if failed and library.tjGetErrorCode(handle) != _WARNING:
                raise OSError("a JPEG of the .beton file is damaged; remove the file to have it written again")
    finally:
        library.tjDestroy(handle)


@cache
def _turbojpeg() -> ctypes.CDLL:
    library = ctypes.CDLL(ffcv._libffcv.__file__)
    library.tjInitDecompress.restype = ctypes.c_void_p
    library.tjDestroy.argtypes = [ctypes.c_void_p]
    library.tjGetErrorCode.argtypes = [ctypes.c_void_p]
    pointer, number = ctypes.c_void_p, ctypes.c_int
    library.tjDecompress2.argtypes = [pointer, pointer, ctypes.c_ulong, pointer, *[number] * 5]
    return library


class ImageDecoder(SimpleRGBImageDecoder):  # type: ignore[misc]
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
        if numba_compiles():
            return super().generate_code()
        return _gather(3 * int(self.metadata["height"][0]) * int(self.metadata["width"][0]))


def _gather(num_bytes: int) -> Callable[..., np.ndarray]:
    def decode(indices: np.ndarray, batch: np.ndarray, metadata: np.ndarray, storage: tuple[Any, ...]) -> Any:
        windows = np.lib.stride_tricks.sliding_window_view(storage[0], num_bytes)
        batch.reshape(len(indices), num_bytes)[:] = windows[metadata["data_ptr"][indices]]
        return batch

    return decode


class LabelDecoder(IntDecoder):  # type: ignore[misc]
    """Labels, (n, 1) int64."""

    def generate_code(self) -> Callable[..., np.ndarray]:
        """What FFCV calls per batch."""

        def decode(indices: np.ndarray, batch: np.ndarray, metadata: np.ndarray, storage: tuple[Any, ...]) -> Any:
            batch[:, 0] = metadata[indices]
            return batch

        return decode


POLL_SECONDS = 1.0


class ReaderThread(EpochIterator):  # type: ignore[misc]
    """A thread that reads `parts` (none of them empty) ahead of `take`. Always `stop` it."""

    def __init__(self, loader: Loader, parts: Sequence[np.ndarray]) -> None:
        self._failure: BaseException | None = None
        loader.batch_size = max(len(part) for part in parts)
        super().__init__(loader, _Batches(parts, loader.batch_size))

    def run(self) -> None:
        """The thread: FFCV's, with its exception kept for the consumer."""
        try:
            super().run()
        except BaseException as error:  # FFCV would print it here and leave the consumer waiting for ever
            self._failure = error

    def take(self) -> tuple[Tensor, Tensor]:
        """The next batch, as views of buffers that FFCV overwrites a few batches later.

        Raises:
            RuntimeError: the thread died.
        """
        while True:
            try:
                _, (images, labels) = self.output_queue.get(timeout=POLL_SECONDS if self.is_alive() else 0)
                return images, labels
            except queue.Empty:
                if not self.is_alive() and self.output_queue.empty():
                    raise RuntimeError("FFCV's reader thread died") from self._failure

    def stop(self) -> None:
        """End the thread, wherever it is; without this FFCV leaves it blocked with its buffers."""
        self.terminate_event.set()
        while self.is_alive():
            # Its last `put` has no timeout, so room has to be made until it is gone.
            try:
                self.output_queue.get(timeout=0.01)
            except queue.Empty:
                continue
        self.join()
        self.close()


class _Batches:
    """What FFCV takes for one long order and slices into batches: here a slice is a part, of whatever length."""

    def __init__(self, parts: Sequence[np.ndarray], batch_size: int) -> None:
        self._parts, self._batch_size = parts, batch_size

    def __len__(self) -> int:
        return len(self._parts) * self._batch_size

    def __getitem__(self, rows: slice) -> np.ndarray:
        return self._parts[rows.start // self._batch_size]
