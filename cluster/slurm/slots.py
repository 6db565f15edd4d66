"""So many at a time on one machine, without a queue: whoever finds no free place looks again."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

#: Seconds between two looks.
INTERVAL = 0.5


@contextmanager
def slot(folder: Path, places: int, wanted: Callable[[], bool]) -> Iterator[int | None]:
    """Hold one of the places, waiting as long as one is `wanted`, else None; the system takes it from the dead."""
    folder.mkdir(parents=True, exist_ok=True)
    while wanted():
        for number in range(places):
            with open(folder / str(number), "w") as file:
                if _taken(file):
                    continue
                yield number
                return
        time.sleep(INTERVAL)
    yield None


def _taken(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    return False
