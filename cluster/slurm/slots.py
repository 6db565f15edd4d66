"""So many at a time on one machine, without a queue: whoever finds no free place looks again."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

#: Seconds between two looks.
INTERVAL = 0.5


@contextmanager
def slot(folder: Path, places: int) -> Iterator[int]:
    """Hold one of the places, waiting for it; the system gives it back when the holder dies."""
    folder.mkdir(parents=True, exist_ok=True)
    while True:
        for number in range(places):
            with open(folder / str(number), "w") as file:
                if _taken(file):
                    continue
                yield number
                return
        time.sleep(INTERVAL)


def _taken(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    return False
