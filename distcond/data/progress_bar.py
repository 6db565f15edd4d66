"""How far a long job is: a bar on a terminal, two log lines elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_log = logging.getLogger(__name__)

#: Shorter jobs are not worth a log line.
WORTH_A_LINE = 10_000
#: Shorter jobs are not worth a bar.
DELAY_SECONDS = 1.0


@contextmanager
def progress_bar(total: int, what: str) -> Iterator[Callable[[int], object]]:
    """Yield `advance(count)` for a job of `total` items."""
    if sys.stderr.isatty():
        try:
            from tqdm import tqdm
        except ImportError:
            pass
        else:
            with tqdm(total=total, desc=what, delay=DELAY_SECONDS, leave=False) as bar:
                yield bar.update
            return
    if total >= WORTH_A_LINE:
        _log.info("%s: %d ...", what, total)
    begin = time.perf_counter()
    yield lambda count: None
    if total >= WORTH_A_LINE:
        _log.info("%s: %d in %.1f s", what, total, time.perf_counter() - begin)
