"""The service of a run in this process, under uvicorn."""

from __future__ import annotations

import logging
import socket
from contextlib import closing
from ipaddress import ip_address

import numpy as np
import torch
import uvicorn
from fastapi import FastAPI

from distcond.config.schema import Config
from distcond.data.loader import to_float
from distcond.data.prepare import open_source, prepare_data, resolve_dataset
from distcond.distributed.world import choose_device
from distcond.errors import ConfigError
from distcond.models.conditional import ConditionalModel
from distcond.models.dial_network import DialNetwork
from distcond.models.plain_network import fold
from distcond.results.store import read_rows
from distcond.runs.load_run import epoch_at, load
from distcond.runs.run_cache import fetch_run
from distcond.runs.run_dir import RunDir
from distcond.serving.app import Service, make_app
from distcond.serving.policy import measured_positions
from distcond.serving.settings import ServeSettings

#: Seconds after a signal to stop; a client that sends its body slowly could hold the service up for ever.
STOP_SECONDS = 10

_log = logging.getLogger(__name__)


def serve(place: str, settings: ServeSettings) -> int:
    """Serve the run at `place` as `ServeSettings` say, until interrupted.

    Raises:
        ConfigError: no such run, or the port is taken.
    """
    app = app_of(place, settings)
    listener = _listen(settings.host, settings.port)
    host, port = listener.getsockname()[:2]
    print(f"serving {place} on http://{f'[{host}]' if ':' in host else host}:{port}", flush=True)
    server_of(app).run(sockets=[listener])
    return 0


def app_of(place: str, settings: ServeSettings) -> FastAPI:
    """The application for the run at `place`.

    Raises:
        ConfigError: as `service_of`.
    """
    numbers = settings.max_batch, settings.max_wait / 1000, settings.max_queue
    return make_app(service_of(place, settings), *numbers, hosts=known_hosts(settings))


def server_of(app: FastAPI) -> uvicorn.Server:
    """uvicorn for the application. When stopped, it gives requests that are not complete `STOP_SECONDS`."""
    return uvicorn.Server(
        uvicorn.Config(
            app, log_level="warning", access_log=False, timeout_keep_alive=30, timeout_graceful_shutdown=STOP_SECONDS
        )
    )


def known_hosts(settings: ServeSettings) -> tuple[str, ...]:
    """Names that requests may give in their Host header; none = any.

    On this machine alone, those of this machine: other sites' pages could otherwise come in by a name of theirs.
    """
    try:
        alone = settings.host == "localhost" or ip_address(settings.host).is_loopback
    except ValueError:  # a name
        alone = False
    return (*settings.hosts, *(("localhost", "127.0.0.1", "::1", settings.host) if alone else ()))


def service_of(place: str, settings: ServeSettings) -> Service:
    """The network of a run with what its rows and its test images say.

    Raises:
        ConfigError: no run or checkpoint there, or a width the network was not built with.
    """
    run = RunDir(fetch_run(place, checkpoints=True))
    config = run.config()
    model = load(run.path, settings.checkpoint)
    device = choose_device(settings.device)
    blend = "folded" if model.two_networks else "weights"
    rows = read_rows(run.path)
    epoch = epoch_at(run, settings.checkpoint)
    measured, threat = measured_positions(rows, blend, settings.lam, settings.width, settings.checkpoint, epoch)
    return Service(
        name=run.name,
        network=_network(model, settings).to(device),
        image_size=resolve_dataset(config.data).image_size,
        classes=model.classes,
        measured=measured,
        examples=_examples(config, settings.examples),
        threat=threat,
    )


def _network(model: ConditionalModel, settings: ServeSettings) -> torch.nn.Module:
    if not model.two_paths:
        return fold(model, settings.lam, settings.width)
    return DialNetwork(model, settings.lam, settings.width)


def _examples(config: Config, count: int) -> tuple[torch.Tensor, list[int]]:
    """The first test images; none where the data set is not at hand."""
    if not count:
        return torch.empty(0), []
    try:
        source = open_source(prepare_data(config.data), "test")
    except ConfigError as error:
        _log.warning("no example images: %s", error)
        return torch.empty(0), []
    count = min(count, len(source))
    with closing(source.read([np.arange(count)])) as batches:
        x, y = next(batches)
    return to_float(x).contiguous(), y.tolist()


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise ConfigError(f"port={port}: cannot listen on {host} ({error.strerror}); name another") from error
