"""Script: start a Ray cluster, describe it as JSON after a line of input, and raise at the end of input."""

from __future__ import annotations

import json
import os
import sys

from distcond.launch.ray.cluster import ray_cluster


def main() -> None:
    before = dict(os.environ)
    try:
        with ray_cluster() as ray:
            import ray as ray_module

            facts = {
                "token": os.environ["RAY_AUTH_TOKEN_PATH"],
                "address": ray_module.get_runtime_context().gcs_address,
                "own": ray.own,
                "cores": ray.capacity.cores,
            }
            sys.stdin.readline()
            print(json.dumps(facts), flush=True)
            sys.stdin.read()
            raise RuntimeError("the end")
    except RuntimeError as error:
        print(
            json.dumps({"error": str(error), "changed": sorted(set(before.items()) ^ set(os.environ.items()))}),
            flush=True,
        )


if __name__ == "__main__":
    main()
