"""Wait until all nodes have joined a Ray cluster: `python -m cluster.slurm.await_nodes HOST:PORT NODES SECONDS FILE`.

Creates FILE as soon as the head is up, for the other nodes to join it.
"""

from __future__ import annotations

import logging
import sys
import time
from contextlib import suppress
from pathlib import Path


def main(address: str, nodes: int, seconds: float, file: Path) -> int:
    """Returns status 0 once all nodes are there, 1 after so many seconds without."""
    import ray

    end = time.monotonic() + seconds
    alive = 0
    while time.monotonic() < end:
        with suppress(ConnectionError, RuntimeError):  # the head is still starting
            if not ray.is_initialized():
                ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
            alive = sum(node["Alive"] for node in ray.nodes())
            if alive:
                file.touch()
            if alive >= nodes:
                print(f"Ray at {address}: {alive} nodes", file=sys.stderr)
                return 0
        time.sleep(0.5)
    print(f"Ray at {address}: {alive} of {nodes} nodes after {seconds:.0f} s", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), Path(sys.argv[4])))
