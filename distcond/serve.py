"""Serve a run's network over HTTP: `python -m distcond.serve RUN_DIR [NAME=VALUE ...]`.

    python -m distcond.serve runs/RUN                    http://127.0.0.1:8000, with a page to try it on test images
    curl --data-binary @image.png -H 'Content-Type: image/png' 'http://127.0.0.1:8000/predict?dial=0.5'
    curl -H 'Content-Type: application/json' -d '{"images": [...], "policy": "ra>=0.4"}' http://127.0.0.1:8000/predict

Requests choose a position in [0, 1] of the blend of the network's two paths (0 = most accurate), or a policy: accurate,
balanced, robust, ra>=0.4, sa>=95%, by what was measured on the test split. Requests at different positions are answered
in one pass. A network with one path stands at one position, and requests name none. /health, /metrics (Prometheus),
/openapi.json.

  host=127.0.0.1     address to listen on; others can reach it only if you name another
  port=8000          0 = any free port
  hosts=NAME,...     names in the Host header that are answered besides this machine's own, such as a proxy's; of a
                     service that others can reach: the only ones, or any where none is given
  lam=1              of the robust end; of a network with one path: its operating point
  width=1            multiplier of the width, for networks with several
  checkpoint=best    best, last or last_raw
  device=auto        auto, cpu or cuda
  max_batch=64       images in one pass
  max_wait=3         milliseconds to wait for more requests
  max_queue=1024     images that may wait; more are answered with status 503
  examples=16        test images on the page
  launch=local       or ray: a Ray Serve deployment on the cluster of RAY_ADDRESS, or on one of this machine
  replicas=1         of a Ray Serve deployment
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from importlib import import_module

from distcond.config.command_line import run_cli
from distcond.errors import ConfigError
from distcond.runs.code_trust import take_trust
from distcond.serving.settings import parse_settings


def main(argv: Sequence[str]) -> int:
    """Serve until interrupted."""
    if not argv or set(argv) & {"--help", "-h"}:
        print(__doc__)
        return 0
    argv = take_trust(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    settings = parse_settings(argv[1:])
    _require("fastapi", "uvicorn", "prometheus_client", *(["ray.serve"] if settings.launch == "ray" else []))
    if settings.launch == "ray":
        return int(import_module("distcond.launch.ray.serve").serve_on_ray(argv[0], settings))
    return int(import_module("distcond.serving.local").serve(argv[0], settings))


def _require(*modules: str) -> None:
    for name in modules:
        try:
            import_module(name)
        except ImportError as error:
            raise ConfigError(f"{error.name} is not installed: pip install 'distcond[serve]'") from error


if __name__ == "__main__":
    run_cli(lambda: main(sys.argv[1:]))
