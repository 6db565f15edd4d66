"""The FFCV source: reads a .beton file ahead of the training in a thread of its own, through the page cache."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path

import numpy as np
import torch

from distcond.data.ffcv_import import compiles, import_ffcv
from distcond.data.source import RawBatch, check_parts
from distcond.data.transfer import copied

#: Batches read before they are asked for.
AHEAD = 3


class FfcvSource:
    """`Source` over a file of `distcond.data.beton`.

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
        from distcond.data.ffcv_parts.epoch import Epoch

        check_parts(parts, len(self))
        wanted = [np.ascontiguousarray(part, dtype=np.int64) for part in parts if len(part)]
        if not wanted:
            yield from (self._empty() for _ in parts)
            return
        epoch = Epoch(self._loader, wanted)
        try:
            for part in parts:
                if len(part):
                    images, labels = epoch.take()
                    yield copied(images, self.device), copied(labels[:, 0], self.device)
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

    from distcond.data.ffcv_parts.decode import GatherInts, Images

    label = IntDecoder if compiles() else GatherInts
    return {"image": [Images(threads), ToTensor()], "label": [label(), ToTensor()]}
