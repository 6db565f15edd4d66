"""Runs functions of a test file on several gloo processes, which are reused, since importing torch takes seconds.

As a script this is one such process. It reads the path of a request per line and answers each with a line. A request
names a test file, a function in it and its arguments. Tests use the fixture `run_ranks`.
"""

from __future__ import annotations

import importlib.util
import os
import pickle
import select
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from support.processes import LIMIT

#: All ranks wait for each other after the handshake. Otherwise a rank with little to do closes its connections while
#: others still connect, and these fail with "connectFullMesh failed".
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "TORCH_DIST_INIT_BARRIER": "1"}

#: Seconds for the other ranks to report their errors after one has failed.
GRACE = 0.5


class Ranks:
    """`Ranks(folder).run(function, world, *arguments)` returns the results of all ranks, in order.

    The function is called `(rank, world, *arguments)` with the process group set up, one thread, and warnings as
    errors. Arguments are pickled; results must be readable by `torch.load(weights_only=True)`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.requests = folder, 0
        self.processes: list[subprocess.Popen[str]] = []

    def run(self, function: Callable[..., Any], world: int, *arguments: Any) -> list[Any]:
        import torch

        self.requests += 1
        place = self.folder / f"request-{self.requests}"
        place.mkdir()
        request = {"file": function.__code__.co_filename, "function": function.__name__, "arguments": arguments}
        for rank in range(world):
            path = place / f"{rank}.request"
            path.write_bytes(pickle.dumps(request | {"rank": rank, "world": world}))
            _send(self._process(rank), path)
        self._wait(place, world)
        return [torch.load(place / f"{rank}.result", weights_only=True) for rank in range(world)]

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.communicate()
        self.processes.clear()

    def _process(self, rank: int) -> subprocess.Popen[str]:
        while len(self.processes) <= rank:
            paths = os.pathsep.join(path for path in sys.path if path)
            self.processes.append(
                subprocess.Popen(
                    [sys.executable, "-W", "error", "-m", "support.ranks"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    env={**os.environ, **ENVIRONMENT, "PYTHONPATH": paths},
                )
            )
        return self.processes[rank]

    def _wait(self, place: Path, world: int) -> None:
        waiting = {self.processes[rank].stdout: rank for rank in range(world)}
        deadline, answers = time.monotonic() + LIMIT, dict[int, str]()
        while waiting:
            ready, _, _ = select.select(list(waiting), [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                break
            answers |= {waiting.pop(out): out.readline().strip() for out in ready}
            if set(answers.values()) != {"done"}:  # the others may block on the failed one in a collective
                deadline = min(deadline, time.monotonic() + GRACE)
        if waiting or set(answers.values()) != {"done"}:
            self.close()
            errors = [path.read_text() for path in sorted(place.glob("*.error"))]
            raise AssertionError("\n".join([f"{world} ranks: {answers or 'no answer in time'}", *errors]))


@pytest.fixture(scope="session")
def run_ranks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., list[Any]]]:
    """`run_ranks(function, world, *arguments)`: call a function of a test file on `world` gloo processes."""
    ranks = Ranks(tmp_path_factory.mktemp("ranks"))
    yield ranks.run
    ranks.close()


def _send(process: subprocess.Popen[str], path: Path) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{path}\n")
    process.stdin.flush()


def serve(answers: IO[str]) -> None:
    """Answer requests until standard input ends."""
    import torch

    torch.set_num_threads(1)
    for line in sys.stdin:
        path = Path(line.strip())
        try:
            torch.save(_call(pickle.loads(path.read_bytes()), path.parent), path.with_suffix(".result"))
            answer = "done"
        except BaseException:
            path.with_suffix(".error").write_text(traceback.format_exc())
            answer = "failed"
        print(answer, file=answers, flush=True)


def _call(request: dict[str, Any], place: Path) -> Any:
    import torch.distributed as dist

    function = getattr(_module(Path(request["file"])), request["function"])
    rank, world = request["rank"], request["world"]
    dist.init_process_group("gloo", init_method=f"file://{place}/store", rank=rank, world_size=world)
    try:
        return function(rank, world, *request["arguments"])
    finally:
        dist.destroy_process_group()


def _module(path: Path) -> Any:
    if path.stem in sys.modules:
        return sys.modules[path.stem]
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # keep the output of the code under test apart from the answers
    serve(channel)
