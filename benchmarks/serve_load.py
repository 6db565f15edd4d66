"""Requests a second of `python -m distcond.serve`, in one process and as a Ray Serve deployment, at mixed positions.

    python benchmarks/serve_load.py RUN_DIR --requests 1000 --clients 16 --turns 3

The services run side by side and are loaded in turn; each request carries one image and its own position.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import torch

LAUNCHES = ("local", "ray")


def main() -> None:
    """Start both, load them in turn, print rates and latencies."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("run")
    arguments.add_argument("--requests", type=int, default=1000)
    arguments.add_argument("--clients", type=int, default=16)
    arguments.add_argument("--turns", type=int, default=3)
    found = arguments.parse_args()
    services = {launch: start(found.run, launch) for launch in LAUNCHES}
    try:
        addresses = {launch: address(process) for launch, process in services.items()}
        times: dict[str, list[float]] = {launch: [] for launch in LAUNCHES}
        rates: dict[str, list[float]] = {launch: [] for launch in LAUNCHES}
        for turn in range(found.turns + 1):
            for launch, url in addresses.items():
                began = time.perf_counter()
                latencies = load(url, found.requests, found.clients)
                if turn:  # the first warms up
                    rates[launch].append(found.requests / (time.perf_counter() - began))
                    times[launch] += latencies
    finally:
        for process in services.values():
            process.terminate()
            process.wait(60)
    print(f"{found.requests} requests of one image, {found.clients} clients, {found.turns} turns")
    for launch in LAUNCHES:
        ordered = sorted(times[launch])
        p50, p99 = (1e3 * ordered[int(share * (len(ordered) - 1))] for share in (0.5, 0.99))
        print(f"{launch:6} {statistics.median(rates[launch]):7.0f} requests/s, latency {p50:.1f} ms, p99 {p99:.1f} ms")


def start(run: str, launch: str) -> subprocess.Popen[str]:
    """One service as a process."""
    command = [sys.executable, "-m", "distcond.serve", run, "port=0", f"launch={launch}", "device=cpu"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def address(process: subprocess.Popen[str]) -> str:
    """Where it listens, once it does."""
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.search(r"on (http://\S+)", line):
            return found[1]
    raise SystemExit("the service ended")


def load(url: str, requests: int, clients: int) -> list[float]:
    """Seconds of each request."""
    side = httpx.get(f"{url}/health").json()["image_size"]
    image = torch.rand(1, 3, side, side).tolist()
    with httpx.Client(limits=httpx.Limits(max_connections=clients), timeout=60) as client:

        def ask(number: int) -> float:
            began = time.perf_counter()
            client.post(f"{url}/predict", json={"images": image, "dial": number % 11 / 10}).raise_for_status()
            return time.perf_counter() - began

        with ThreadPoolExecutor(clients) as pool:
            return list(pool.map(ask, range(requests)))


if __name__ == "__main__":
    main()
