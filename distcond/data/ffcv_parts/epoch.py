"""One pass of FFCV's reader thread over given batches, which ends cleanly and fails loudly."""

from __future__ import annotations

import queue
from collections.abc import Sequence

import numpy as np
from ffcv.loader import Loader
from ffcv.loader.epoch_iterator import EpochIterator
from torch import Tensor

POLL_SECONDS = 1.0


class Epoch(EpochIterator):  # type: ignore[misc]
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
