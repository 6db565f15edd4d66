"""Reading FFCV's files: importing the library without what it does to the process, and `FfcvSource`.

The source reads a .beton file ahead of the training in a thread of its own, through the page cache.
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


def import_ffcv() -> None:
    """Import FFCV. Call it before any other `import ffcv...`.

    - NUMBA_DISABLE_JIT=1 is set, unless it is set already or numba is imported already. Compiling costs every worker
      4 seconds at start and buys nothing here: decoding a batch of raw images is one gather (`ffcv_parts.decode`), and
      JPEG is decoded by a C library. Set NUMBA_DISABLE_JIT=0 for FFCV's own compiled decoder of raw images.
    - torch's thread count stays what it was: importing FFCV sets it to 1, and every FFCV loader and reader thread
      sets it again.
    - FFCV is told that there is no GPU. None of its work runs there, and otherwise each epoch opens streams and its
      reader thread records events on the training's stream, which breaks the capture of a CUDA graph.

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
    _leave_torch_threads_alone()
    _leave_plain_code_alone()


Code = TypeVar("Code", bound=Callable[..., Any])


def mark_uncompiled(code: Code) -> Code:
    """Mark what FFCV is to call as it is, also where numba compiles."""
    vars(code)["plain"] = True
    return code


def numba_compiles() -> bool:
    """Whether numba compiles in this process; decided when it was imported."""
    return not _numba_config()["DISABLE_JIT"]


@cache
def ffcv_problem() -> str | None:
    """Why FFCV cannot be imported here, in one line; None if it can."""
    try:
        import_ffcv()
    except Exception as error:  # a broken build fails in many ways, and none of them may stop the other loader
        return " ".join(f"{type(error).__name__}: {error}".split())
    return None


def _leave_torch_threads_alone() -> None:
    import numba
    from ffcv.pipeline.compiler import Compiler

    def set_num_threads(count: int) -> None:
        Compiler.num_threads = count
        if numba_compiles():
            numba.set_num_threads(min(count, _numba_config()["NUMBA_NUM_THREADS"]))

    Compiler.set_num_threads = set_num_threads


def _leave_plain_code_alone() -> None:
    from ffcv.pipeline.compiler import Compiler

    compile_any = vars(Compiler)["compile"].__func__
    if hasattr(compile_any, "plain"):
        return  # put there by an earlier call

    def compile_unless_plain(code: Any, signature: Any = None) -> Any:
        return code if hasattr(code, "plain") else compile_any(Compiler, code, signature)

    Compiler.compile = staticmethod(mark_uncompiled(compile_unless_plain))


def _numba_config() -> dict[str, Any]:
    import numba

    return vars(numba.config)


#: Batches read before they are asked for.
AHEAD = 3


class FfcvSource:
    """`Source` over a file of `distcond.data.ffcv.writer`.

    `threads` matters for JPEG images, and where numba compiles (see `import_ffcv`).

    FFCV's own shuffling, sharding and augmentation are not used: it pads ranks with repeated images, and its
    augmentation does not follow the seed.
    """

    def __init__(self, path: Path | str, device: torch.device | str = "cpu", threads: int = 1) -> None:
        import_ffcv()
        from ffcv.loader import Loader

        self.device = torch.device(device)
        # FFCV's batch size is set per epoch; without a seed it would draw one from numpy's global generator.
        pipelines = _pipelines(threads)
        self._loader = Loader(str(path), 1, num_workers=threads, seed=0, batches_ahead=AHEAD, pipelines=pipelines)
        self.image_size = int(self._loader.reader.metadata[0]["f0"]["height"])
        self.labels = np.asarray(self._loader.reader.metadata["f1"], dtype=np.int64)

    def __len__(self) -> int:
        return int(self._loader.reader.num_samples)

    def read(self, parts: Sequence[np.ndarray]) -> Generator[RawBatch, None, None]:
        """See `Source.read`."""
        from distcond.data.ffcv.pipeline import ReaderThread

        check_indices(parts, len(self))
        wanted = [np.ascontiguousarray(part, dtype=np.int64) for part in parts if len(part)]
        if not wanted:
            yield from (self._empty() for _ in parts)
            return
        epoch = ReaderThread(self._loader, wanted)
        try:
            for part in parts:
                if len(part):
                    images, labels = epoch.take()
                    yield copy_to_device(images, self.device), copy_to_device(labels[:, 0], self.device)
                else:
                    yield self._empty()
        finally:
            epoch.stop()

    def _empty(self) -> RawBatch:
        images = torch.empty(0, self.image_size, self.image_size, 3, dtype=torch.uint8, device=self.device)
        return images, torch.empty(0, dtype=torch.int64, device=self.device)


def _pipelines(threads: int) -> dict[str, list[object]]:
    from ffcv.fields.decoders import IntDecoder
    from ffcv.transforms import ToTensor

    from distcond.data.ffcv.pipeline import ImageDecoder, LabelDecoder

    label = IntDecoder if numba_compiles() else LabelDecoder
    return {"image": [ImageDecoder(threads), ToTensor()], "label": [label(), ToTensor()]}
