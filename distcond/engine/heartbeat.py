"""Small files that say how far a run is, put at its home every few seconds, as well as that goes; and a wish to stop,
which comes from there."""

from __future__ import annotations

import threading
from contextlib import suppress

from distcond.aside import write_text
from distcond.engine.home import LIVE, STOP, Home

#: Seconds between two looks.
INTERVAL = 5.0

#: Seconds that the last words may take.
PATIENCE = 20.0


class Heartbeat(threading.Thread):
    """Puts what has changed. It keeps no process alive and tells nobody of failures: the next beat tries again."""

    def __init__(self, home: Home) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self.home, self.over = home, threading.Event()
        self._put: dict[str, int] = {}

    def run(self) -> None:
        """Until the run is over, and once more then."""
        while not self.over.wait(INTERVAL):
            self._beat()
        self._beat()

    def close(self) -> None:
        """Say the last word; it is not waited for much."""
        self.over.set()
        if self.is_alive():
            self.join(PATIENCE)

    def _beat(self) -> None:
        with suppress(OSError):
            wish = self.home.store.read(STOP).decode()
            if wish:
                write_text(self.home.local / STOP, wish)
        for name in LIVE:
            with suppress(OSError):
                file = self.home.local / name
                changed = file.stat().st_mtime_ns
                if self._put.get(name) != changed:
                    self.home.store.put(file, name)
                    self._put[name] = changed
