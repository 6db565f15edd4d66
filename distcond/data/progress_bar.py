"""Progress of a long job: a bar on a terminal or in a notebook, two log lines elsewhere."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from distcond.tqdm_bar import make_bar

_log = logging.getLogger(__name__)

#: Jobs with fewer items log nothing.
MIN_LOGGED_ITEMS = 10_000
#: Shorter jobs show no bar.
BAR_DELAY_SECONDS = 1.0


@contextmanager
def progress_bar(total: int, what: str) -> Iterator[Callable[[int], object]]:
    """Yield `advance(count)` for a job of `total` items."""
    bar = make_bar(total=total, desc=what, delay=BAR_DELAY_SECONDS, leave=False)
    if bar is not None:
        with bar:
            yield bar.update
        return
    if total >= MIN_LOGGED_ITEMS:
        _log.info("%s: %d ...", what, total)
    begin = time.perf_counter()
    yield lambda count: None
    if total >= MIN_LOGGED_ITEMS:
        _log.info("%s: %d in %.1f s", what, total, time.perf_counter() - begin)
