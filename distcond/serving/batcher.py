"""Answers requests at different positions together: one forward pass for all that came within a few milliseconds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor, nn

from distcond.errors import ConfigError
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
        self._device = next(chain(network.parameters(), network.buffers()), torch.empty(0)).device
        self._queue: dict[asyncio.Future[Tensor], _Request] = {}  # in the order of their arrival
        self._arrived = asyncio.Event()
        self._waiting = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="network")
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to answer, on the running event loop."""
        self._task = asyncio.create_task(self._serve())

    async def stop(self) -> None:
        """Stop; requests that are not answered yet are cancelled."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for answer in list(self._queue):
            answer.cancel()
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def answer(self, images: Tensor, positions: Tensor) -> Tensor:
        """Logits (n, K) of images (n, 3, H, W) in [0, 1] at positions (n,) in [0, 1].

        Raises:
            Overloaded: too many images wait.
            ConfigError: more images than may ever wait.
        """
        if len(images) > self.max_queue:
            raise ConfigError(f"images: {len(images)} in one request; at most {self.max_queue} may wait")
        if self._waiting + len(images) > self.max_queue:
            raise Overloaded(f"{self._waiting} images wait; try again later")
        self._waiting += len(images)
        answer = asyncio.get_running_loop().create_future()
        self._queue[answer] = _Request(images, positions, answer)
        self._arrived.set()
        try:
            return await answer
        finally:
            self._waiting -= len(images)
            self._queue.pop(answer, None)  # its client has gone: nobody needs the answer

    async def _serve(self) -> None:
        while True:
            batch = await self._collect()
            try:
                await self._answer_all(batch)
            except Exception as error:  # one bad batch must not end the service
                for request in batch:
                    if not request.answer.done():
                        request.answer.set_exception(error)
            finally:
                for request in batch:
                    request.answer.cancel()  # no effect on those that are done

    async def _answer_all(self, batch: list[_Request]) -> None:
        if not batch:
            return
        images = torch.cat([request.images for request in batch])
        positions = torch.cat([request.positions for request in batch])
        logits = await asyncio.get_running_loop().run_in_executor(self._thread, self._predict, images, positions)
        self.on_batch(len(images))
        for request, part in zip(batch, logits.split([len(request.images) for request in batch]), strict=True):
            if not request.answer.done():  # its client may have gone
                request.answer.set_result(part)

    async def _collect(self) -> list[_Request]:
        """The requests of the next pass: those that come within `max_wait` of the first, up to `max_batch` images."""
        while not self._queue:
            self._arrived.clear()
            await self._arrived.wait()
        try:
            async with asyncio.timeout(self.max_wait):
                while sum(len(request.images) for request in self._queue.values()) < self.max_batch:
                    self._arrived.clear()
                    await self._arrived.wait()
        except TimeoutError:
            pass
        return self._take()

    def _take(self) -> list[_Request]:
        batch: list[_Request] = []
        for request in list(self._queue.values()):
            if batch and sum(len(one.images) for one in (*batch, request)) > self.max_batch:
                break
            batch.append(self._queue.pop(request.answer))
        return batch

    @torch.inference_mode()
    def _predict(self, images: Tensor, positions: Tensor) -> Tensor:
        images = images.to(self._device)
        if not isinstance(self.network, DialNetwork):
            logits: Tensor = self.network(images)
        elif len(positions.unique()) == 1:
            logits = self.network.at(float(positions[0]))(images)
        else:
            logits = self.network(images, positions)
        return logits.cpu()
