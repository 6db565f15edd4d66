"""Reads FFCV's files: imports the library without its side effects on the process, and `FfcvSource`.

The source reads a .beton file in a background thread, ahead of training, through the page cache.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Generator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from distcond.data.sources import RawBatch, check_indices, copy_to_device

#: Batches read in advance.
BATCHES_AHEAD = 3


def import_ffcv() -> None:
    """Import FFCV without its side effects. Call this before any other `import ffcv...`.

    - Sets NUMBA_DISABLE_JIT=1 unless it is set or numba is imported already. Compiling costs every worker 4 seconds at
      start and gains nothing here: decoding a batch of raw images is one gather (`ffcv.pipeline`), and a C library
      decodes JPEG. Set NUMBA_DISABLE_JIT=0 for FFCV's own compiled decoder of raw images.
    - Keeps torch's thread count: importing FFCV sets it to 1, and every FFCV loader and reader thread sets it again.
    - Hides the GPU from FFCV. None of its work runs there, but each epoch would open streams and record events on the
      stream of the training, which breaks CUDA graph capture.

    Raises:
        ImportError, OSError: FFCV or one of its system libraries is missing.
    """
    if "numba" not in sys.modules:
        os.environ.setdefault("NUMBA_DISABLE_JIT", "1")
    threads = torch.get_num_threads()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # FFCV imports distutils
            import ffcv.loader.epoch_iterator
    finally:
        torch.set_num_threads(threads)
    ffcv.loader.epoch_iterator.IS_CUDA = False
    _patch_thread_count()
    _patch_compile()


Code = TypeVar("Code", bound=Callable[..., Any])


def mark_uncompiled(code: Code) -> Code:
    """Mark a function that FFCV must not compile, even if numba compiles."""
    vars(code)["plain"] = True
    return code


def numba_compiles() -> bool:
    """Whether numba compiles in this process, as decided when it was imported."""
    return not _numba_config()["DISABLE_JIT"]


@cache
def ffcv_problem() -> str | None:
    """Why FFCV cannot be imported here, in one line; None if it can."""
    try:
        import_ffcv()
    except Exception as error:  # a broken build raises anything; the in-memory loader must still work
        return " ".join(f"{type(error).__name__}: {error}".split())
    return None


def _patch_thread_count() -> None:
    """Make FFCV set numba's thread count only, not torch's."""
    import numba
    from ffcv.pipeline.compiler import Compiler

    def set_num_threads(count: int) -> None:
        Compiler.num_threads = count
        if numba_compiles():
            numba.set_num_threads(min(count, _numba_config()["NUMBA_NUM_THREADS"]))

    Compiler.set_num_threads = set_num_threads


def _patch_compile() -> None:
    """Make FFCV skip functions that `mark_uncompiled` has marked."""
    from ffcv.pipeline.compiler import Compiler

    original = vars(Compiler)["compile"].__func__
    if hasattr(original, "plain"):
        return  # patched by an earlier call

    def compile_unless_marked(code: Any, signature: Any = None) -> Any:
        return code if hasattr(code, "plain") else original(Compiler, code, signature)

    Compiler.compile = staticmethod(mark_uncompiled(compile_unless_marked))


def _numba_config() -> dict[str, Any]:
    import numba

    return vars(numba.config)


class FfcvSource:
    """`Source` of a file written by `distcond.data.ffcv.writer`.

    `threads` matters for JPEG images, and for raw images if numba compiles (see `import_ffcv`). FFCV's own shuffling,
    sharding and augmentation are not used: it pads ranks with repeated images, and its augmentation ignores the seed.
    """

    def __init__(self, path: Path | str, device: torch.device | str = "cpu", threads: int = 1) -> None:
        import_ffcv()
        from ffcv.loader import Loader

        self.device = torch.device(device)
        # The batch size is set per epoch. Without a seed FFCV draws one from numpy's global generator.
        pipelines = _pipelines(threads)
        self._loader = Loader(
            str(path), 1, num_workers=threads, seed=0, batches_ahead=BATCHES_AHEAD, pipelines=pipelines
        )
        self.image_size = int(self._loader.reader.metadata[0]["f0"]["height"])
        self.labels = np.asarray(self._loader.reader.metadata["f1"], dtype=np.int64)

    def __len__(self) -> int:
        return int(self._loader.reader.num_samples)

    def read(self, parts: Sequence[np.ndarray]) -> Generator[RawBatch, None, None]:
        """See `Source.read`."""
        from distcond.data.ffcv.pipeline import ReaderThread

        check_indices(parts, len(self))
        nonempty = [np.ascontiguousarray(part, dtype=np.int64) for part in parts if len(part)]
        if not nonempty:
            yield from (self._empty_batch() for _ in parts)
            return
        reader = ReaderThread(self._loader, nonempty)
        try:
            for part in parts:
                if len(part):
                    images, labels = reader.take()
                    yield copy_to_device(images, self.device), copy_to_device(labels[:, 0], self.device)
                else:
                    yield self._empty_batch()
        finally:
            reader.stop()

    def _empty_batch(self) -> RawBatch:
        images = torch.empty(0, self.image_size, self.image_size, 3, dtype=torch.uint8, device=self.device)
        return images, torch.empty(0, dtype=torch.int64, device=self.device)


def _pipelines(threads: int) -> dict[str, list[object]]:
    from ffcv.fields.decoders import IntDecoder
    from ffcv.transforms import ToTensor

    from distcond.data.ffcv.pipeline import ImageDecoder, LabelDecoder

    label = IntDecoder if numba_compiles() else LabelDecoder
    return {"image": [ImageDecoder(threads), ToTensor()], "label": [label(), ToTensor()]}
