"""Importing FFCV, which is optional, without what it does to the process."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import torch


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


def plain(code: Code) -> Code:
    """Mark what FFCV is to call as it is, also where numba compiles."""
    vars(code)["plain"] = True
    return code


def compiles() -> bool:
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
        if compiles():
            numba.set_num_threads(min(count, _numba_config()["NUMBA_NUM_THREADS"]))

    Compiler.set_num_threads = set_num_threads


def _leave_plain_code_alone() -> None:
    from ffcv.pipeline.compiler import Compiler

    compile_any = vars(Compiler)["compile"].__func__
    if hasattr(compile_any, "plain"):
        return  # put there by an earlier call

    def compile_unless_plain(code: Any, signature: Any = None) -> Any:
        return code if hasattr(code, "plain") else compile_any(Compiler, code, signature)

    Compiler.compile = staticmethod(plain(compile_unless_plain))


def _numba_config() -> dict[str, Any]:
    import numba

    return vars(numba.config)
