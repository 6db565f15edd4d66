"""The process group of Ray Train's workers, without a store that listens at every address.

Ray Train lets torch serve the store: at every address of rank 0's node, without a token, even for a single worker.
Here workers of one node meet in a file of a private directory, whose path Ray's authenticated calls bring to them;
those of several nodes in a TCP store at the address of rank 0's node.
"""

from __future__ import annotations

from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import ray
from ray.exceptions import RayError
from ray.train.torch import TorchConfig
from ray.train.torch.config import _set_torch_distributed_env_vars, _setup_torch_process_group, _TorchBackend
from torch.distributed.rendezvous import register_rendezvous_handler

from distcond.distributed.stores import gloo_on_loopback, join_store, serve_store
from distcond.private_dir import temporary_private_dir

#: The scheme of the URLs of served stores, for torch's `init_method`.
_SCHEME = "distcond"

#: Seconds for rank 0 to remove the directory of the store.
_REMOVAL = 5.0

#: What rank 0 holds while the process group exists: the directory of a file, or a TCP store.
_held = ExitStack()
_served: dict[str, Any] = {}


class PrivateStoreBackend(_TorchBackend):
    """Sets up torch's process group as Ray Train does, but with a store of ours."""

    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        """Set up the process group of all workers."""
        nodes, timeout = worker_group.execute(_node), backend_config.timeout_s
        url = worker_group.execute_single(0, _open_store, len(set(nodes)) == 1, timeout)
        worker_group.execute(_set_torch_distributed_env_vars)
        size = len(worker_group)
        joining = [
            worker_group.execute_single_async(rank, _join, backend_config.backend, rank, size, url, timeout)
            for rank in range(size)
        ]
        ray.get(joining)

    def on_shutdown(self, worker_group: Any, backend_config: Any) -> None:
        """Destroy the process group, and remove the directory of its store."""
        super().on_shutdown(worker_group, backend_config)
        with suppress(RayError):  # the worker is dead; its launcher or the next start removes the directory
            ray.get(worker_group.execute_single_async(0, _close_store), timeout=_REMOVAL)


@dataclass
class PrivateStoreConfig(TorchConfig):
    """Ray Train's configuration of the process group, with `PrivateStoreBackend`."""

    @property
    def backend_cls(self) -> type[_TorchBackend]:
        """The backend that Ray Train instantiates."""
        return PrivateStoreBackend


def _node() -> str:
    node: str = ray.get_runtime_context().get_node_id()
    return node


def _open_store(one_node: bool, timeout: int) -> str:
    """As rank 0, make the store. Returns the URL by which workers join it."""
    _close_store()
    if one_node:
        return f"file://{_held.enter_context(temporary_private_dir())}/store"
    host: str = ray.util.get_node_ip_address()
    store, _ = serve_store(host, 0, timedelta(seconds=timeout))
    url = f"{_SCHEME}://{f'[{host}]' if ':' in host else host}:{store.port}"
    _served[url] = store
    return url


def _close_store() -> None:
    _served.clear()
    _held.close()


def _join(backend: str, rank: int, size: int, url: str, timeout: int) -> None:
    if url.startswith("file:"):
        _held.enter_context(gloo_on_loopback())
    with suppress(RuntimeError):  # registered by an earlier start in this process
        register_rendezvous_handler(_SCHEME, _meet)
    _setup_torch_process_group(backend, rank, size, url, timeout)


def _meet(url: str, timeout: timedelta, **_: Any) -> Any:
    """torch's rendezvous handler for URLs of `_open_store`; torch appends ?rank=R&world_size=N."""
    parts = urlsplit(url)
    query = dict(pair.split("=") for pair in parts.query.split("&"))
    rank, size = int(query["rank"]), int(query["world_size"])
    served = _served.get(f"{_SCHEME}://{parts.netloc}")
    yield served if rank == 0 else join_store(str(parts.hostname), int(parts.port or 0), timeout), rank, size
