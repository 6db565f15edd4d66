"""The HTTP service of a run as a Ray Serve deployment: replicas on a cluster, each with its own network."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

from ray import serve
from ray.serve.config import HTTPOptions
from ray.serve.schema import LoggingConfig

from distcond.errors import ConfigError
from distcond.launch.ray.cluster import ray_cluster
from distcond.serving.local import app_of, service_of
from distcond.serving.settings import ServeSettings
from distcond.storage.uri import is_uri

NAME = "distcond"
#: Seconds until a replica that cannot be reached counts as dead.
HEALTH_SECONDS = 2.0
_LOGGING = LoggingConfig(log_level="WARNING", enable_access_log=False)


def serve_on_ray(place: str, settings: ServeSettings) -> int:
    """Serve the run at `place` on the cluster of RAY_ADDRESS, or on a local one, until interrupted.

    Every node must be able to read `place`. A replica that dies is started again; requests in flight there fail.

    Raises:
        ConfigError: no such run, no cluster answers, or others use Ray Serve on it.
    """
    place = place if is_uri(place) else str(Path(place).expanduser().absolute())
    service_of(place, settings)  # a run that cannot be served is refused before the cluster is used

    def build_app() -> object:
        return app_of(place, settings)

    deployment = serve.deployment(
        name=NAME,
        logging_config=_LOGGING,
        num_replicas=settings.replicas,
        max_ongoing_requests=settings.max_queue,
        health_check_period_s=HEALTH_SECONDS,
        health_check_timeout_s=10 * HEALTH_SECONDS,
        ray_actor_options={"num_cpus": 1, "num_gpus": 1 if settings.device == "cuda" else 0},
    )(serve.ingress(build_app)())
    port = settings.port or _free_port(settings.host)
    with ray_cluster():
        if _applications():  # the address of Ray Serve is theirs already
            raise ConfigError(
                f"launch=ray: the cluster serves {', '.join(_applications())}; use another or launch=local"
            )
        serve.start(http_options=HTTPOptions(host=settings.host, port=port), logging_config=_LOGGING)
        try:
            serve.run(deployment.bind(), name=NAME, route_prefix="/")
            print(f"serving {place} on http://{settings.host}:{port} with {settings.replicas} replicas", flush=True)
            threading.Event().wait()  # a signal ends it
        finally:
            if _applications() not in ([], [NAME]):  # come since
                serve.delete(NAME)
            else:
                serve.shutdown()
    return 0


def _applications() -> list[str]:
    """The applications of Ray Serve on this cluster."""
    return sorted(serve.status().applications)


def _free_port(host: str) -> int:
    with socket.create_server((host, 0)) as listener:
        return int(listener.getsockname()[1])
