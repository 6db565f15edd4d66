"""Replaces FFCV's decoders and reader thread: no compiler, exact JPEG pixels, errors that reach the caller.

FFCV's decoders loop over images, which is fast only when compiled; numpy's gather from the mapped file does the same at
memory speed. FFCV decodes JPEG with libjpeg-turbo's fast transform, up to 10 of 255 away from Pillow's pixels and no
faster; here the same library uses the accurate transform, bit for bit as Pillow.
This module imports FFCV: import it lazily.
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
#: How often the consumer checks that the reader thread is alive.
POLL_SECONDS = 1.0


def decode_jpeg(threads: int) -> Callable[..., np.ndarray]:
    """The function that FFCV calls per batch of JPEG images of one size. `threads` threads decode without the GIL."""

    def decode(indices: np.ndarray, batch: np.ndarray, metadata: np.ndarray, storage: tuple[Any, ...]) -> Any:
        mapped, pointers, sizes = storage
        begins = metadata["data_ptr"][indices]
        lengths = sizes[np.searchsorted(pointers, begins)]
        blobs = [mapped[begin : begin + length] for begin, length in zip(begins, lengths, strict=True)]
        if threads == 1:
            _decode_blobs(blobs, batch)
            return batch
        # A pool per batch: nobody would close a longer-lived one when the loader is dropped.
        with ThreadPoolExecutor(threads) as pool:
            tasks = [pool.submit(_decode_blobs, blobs[part::threads], batch[part::threads]) for part in range(threads)]
            for task in tasks:
                task.result()
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
            # Pillow ignores warnings too.
            if failed and library.tjGetErrorCode(handle) != _WARNING:
                raise OSError("a JPEG of the .beton file is damaged; remove the file so that it is written again")
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
    """Decodes images of one size, raw or JPEG, to (n, H, W, 3) uint8. Truncated raw files raise IndexError."""

    def __init__(self, threads: int) -> None:
        super().__init__()
        self._threads = threads

    def generate_code(self) -> Callable[..., np.ndarray]:
        """The function that FFCV calls per batch."""
        modes = set(self.metadata["mode"].tolist())
        assert len(modes) == 1 and modes <= {IMAGE_MODES["raw"], IMAGE_MODES["jpg"]}, modes
        if modes == {IMAGE_MODES["jpg"]}:
            return decode_jpeg(self._threads)
        if numba_compiles():
            return super().generate_code()
        return _gather_raw(3 * int(self.metadata["height"][0]) * int(self.metadata["width"][0]))


def _gather_raw(num_bytes: int) -> Callable[..., np.ndarray]:
    def decode(indices: np.ndarray, batch: np.ndarray, metadata: np.ndarray, storage: tuple[Any, ...]) -> Any:
        windows = np.lib.stride_tricks.sliding_window_view(storage[0], num_bytes)
        batch.reshape(len(indices), num_bytes)[:] = windows[metadata["data_ptr"][indices]]
        return batch

    return decode


class LabelDecoder(IntDecoder):  # type: ignore[misc]
    """Decodes labels to (n, 1) int64."""

    def generate_code(self) -> Callable[..., np.ndarray]:
        """The function that FFCV calls per batch."""

        def decode(indices: np.ndarray, batch: np.ndarray, metadata: np.ndarray, storage: tuple[Any, ...]) -> Any:
            batch[:, 0] = metadata[indices]
            return batch

        return decode


class ReaderThread(EpochIterator):  # type: ignore[misc]
    """A thread that reads batches of the indices `parts`, none of them empty, ahead of `take`. Always `stop` it."""

    def __init__(self, loader: Loader, parts: Sequence[np.ndarray]) -> None:
        self._failure: BaseException | None = None
        loader.batch_size = max(len(part) for part in parts)
        super().__init__(loader, _PartsAsOrder(parts, loader.batch_size))

    def run(self) -> None:
        """Run FFCV's reader and keep its exception for the consumer."""
        try:
            super().run()
        except BaseException as error:  # FFCV would print it and leave the consumer waiting forever
            self._failure = error

    def take(self) -> tuple[Tensor, Tensor]:
        """The next batch: views of buffers that FFCV overwrites a few batches later.

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
        """End the thread; otherwise FFCV leaves it blocked and its buffers allocated."""
        self.terminate_event.set()
        while self.is_alive():
            # The thread's last `put` has no timeout: empty the queue until it has ended.
            try:
                self.output_queue.get(timeout=0.01)
            except queue.Empty:
                continue
        self.join()
        self.close()


class _PartsAsOrder:
    """Looks like one long index array, which FFCV slices into batches; slice i is `parts[i]`, of any length."""

    def __init__(self, parts: Sequence[np.ndarray], batch_size: int) -> None:
        self._parts, self._batch_size = parts, batch_size

    def __len__(self) -> int:
        return len(self._parts) * self._batch_size

    def __getitem__(self, rows: slice) -> np.ndarray:
        return self._parts[rows.start // self._batch_size]
