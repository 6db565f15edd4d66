"""Answers requests at different positions together: one forward pass for all that came within a few milliseconds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import torch
from torch import Tensor, nn

from distcond.models.dial_network import DialNetwork


class Overloaded(Exception):
    """More images wait than the service takes."""


class _Request(NamedTuple):
    images: Tensor
    positions: Tensor
    answer: asyncio.Future[Tensor]


class Batcher:
    """Collects requests and answers them with one network, in one thread.

    Args:
        network: a `DialNetwork`, or a network that stands at one position.
        max_batch: images in one pass; a request of more is a pass of its own.
        max_wait: seconds to wait for more after the first request of a batch.
        max_queue: images that may wait; requests beyond are turned away.
        on_batch: called with the number of images of each pass.
    """

    def __init__(
        self,
        network: nn.Module,
        max_batch: int = 64,
        max_wait: float = 0.003,
        max_queue: int = 1024,
        on_batch: Callable[[int], None] = lambda count: None,
    ) -> None:
        self.network, self.max_batch, self.max_wait, self.max_queue = network, max_batch, max_wait, max_queue
        self.on_batch = on_batch
        self._requests: asyncio.Queue[_Request] = asyncio.Queue()
        self._waiting = 0
        self._left: _Request | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="network")
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to answer, on the running event loop."""
        self._task = asyncio.create_task(self._serve())

    async def stop(self) -> None:
        """Stop; requests that still wait are cancelled."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        while not self._requests.empty():
            self._requests.get_nowait().answer.cancel()
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def answer(self, images: Tensor, positions: Tensor) -> Tensor:
        """Logits (n, K) of images (n, 3, H, W) in [0, 1] at positions (n,) in [0, 1].

        Raises:
            Overloaded: too many images wait.
        """
        if self._waiting + len(images) > self.max_queue:
            raise Overloaded(f"{self._waiting} images wait; try again later")
        self._waiting += len(images)
        future = asyncio.get_running_loop().create_future()
        await self._requests.put(_Request(images, positions, future))
        try:
            return await future
        finally:
            self._waiting -= len(images)

    async def _serve(self) -> None:
        while True:
            batch = await self._collect()
            images = torch.cat([request.images for request in batch])
            positions = torch.cat([request.positions for request in batch])
            loop = asyncio.get_running_loop()
            try:
                logits = await loop.run_in_executor(self._thread, self._predict, images, positions)
            except Exception as error:  # one bad batch must not end the service
                for request in batch:
                    if not request.answer.done():
                        request.answer.set_exception(error)
                continue
            self.on_batch(len(images))
            for request, part in zip(batch, logits.split([len(request.images) for request in batch]), strict=True):
                if not request.answer.done():  # its client may have gone
                    request.answer.set_result(part)

    async def _collect(self) -> list[_Request]:
        """The requests of the next pass: those that come within `max_wait` of the first, up to `max_batch` images."""
        first = self._left or await self._requests.get()
        self._left, batch, count = None, [first], len(first.images)
        deadline = asyncio.get_running_loop().time() + self.max_wait
        while count < self.max_batch:
            try:
                left = max(0.0, deadline - asyncio.get_running_loop().time())
                request = await asyncio.wait_for(self._requests.get(), left)
            except TimeoutError:
                break
            if count + len(request.images) > self.max_batch:
                self._left = request
                break
            batch.append(request)
            count += len(request.images)
        return batch

    @torch.inference_mode()
    def _predict(self, images: Tensor, positions: Tensor) -> Tensor:
        if not isinstance(self.network, DialNetwork):
            logits: Tensor = self.network(images)
        elif len(positions.unique()) == 1:
            logits = self.network.at(float(positions[0]))(images)
        else:
            logits = self.network(images, positions)
        return logits
