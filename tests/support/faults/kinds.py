"""What can go wrong, each done for real to a run that is going on, and what it takes until the run can go on again."""

from __future__ import annotations

import contextlib
import os
import random
import signal
from collections.abc import Callable
from typing import Any, NamedTuple

from support.faults.storage import Storage
from support.faults.victim import Victim


class Scene(NamedTuple):
    """A run, its disk and, where it has one, its cluster."""

    victim: Victim
    disk: Storage | None
    nodes: Any
    source: random.Random


class Kind(NamedTuple):
    """One kind of fault.

    Attributes:
        strike: do it; False if the run was over before.
        mend: what somebody does before the same command is given again.
        launchers: under which it can happen.
        nodes: whether it needs a cluster of several.
        disk: whether it needs a disk of its own.
        prepare: environment variables, for a fault that comes from inside the run.
    """

    strike: Callable[[Scene], bool]
    mend: Callable[[Scene], None] = lambda scene: None
    launchers: tuple[str, ...] = ("local", "ray")
    nodes: bool = False
    disk: bool = False
    prepare: Callable[[random.Random], dict[str, str]] = lambda source: {}


def _signal_worker(number: int) -> Callable[[Scene], bool]:
    def strike(scene: Scene) -> bool:
        worker = scene.victim.wait_for_workers(scene.source)
        return worker is not None and _sent(worker, number)

    return strike


def _signal_driver(number: int) -> Callable[[Scene], bool]:
    def strike(scene: Scene) -> bool:
        driver = scene.victim.process
        return driver is not None and driver.poll() is None and _sent(driver.pid, number)

    return strike


def _machine_gone(scene: Scene) -> bool:
    running = scene.victim.process is not None and scene.victim.process.poll() is None
    scene.victim.kill_all()
    return running


def _node_gone(scene: Scene) -> bool:
    over = scene.victim.process is None or scene.victim.process.poll() is not None
    if not over:
        last = max(scene.nodes.nodes)
        scene.nodes.lose(last)
        scene.nodes.add(last + 1)
    return not over


def _on_disk(what: Callable[[Storage], None]) -> Callable[[Scene], bool]:
    def strike(scene: Scene) -> bool:
        assert scene.disk is not None
        running = scene.victim.process is not None and scene.victim.process.poll() is None
        if running:
            what(scene.disk)
        return running

    return strike


def _mended(what: Callable[[Storage], None]) -> Callable[[Scene], None]:
    def mend(scene: Scene) -> None:
        assert scene.disk is not None
        what(scene.disk)

    return mend


def _raises(source: random.Random) -> dict[str, str]:
    return {"FAULT": "chance", "FAULT_STEP": str(source.randint(1, 30)), "FAULT_RANK": str(source.randint(0, 1))}


def _sent(process: int, number: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, number)
        return True
    return False


def _raised(scene: Scene) -> bool:
    return True  # the run does it to itself


KINDS = {
    "worker exception": Kind(_raised, prepare=_raises),
    "worker SIGKILL": Kind(_signal_worker(signal.SIGKILL)),
    "worker hangs (SIGSTOP)": Kind(_signal_worker(signal.SIGSTOP)),
    "driver SIGTERM": Kind(_signal_driver(signal.SIGTERM)),
    "driver SIGKILL": Kind(_signal_driver(signal.SIGKILL), launchers=("ray",)),
    "everything SIGKILL": Kind(_machine_gone),
    "node lost (another comes)": Kind(_node_gone, launchers=("ray",), nodes=True),
    "disk full": Kind(_on_disk(Storage.fill), _mended(Storage.empty), disk=True),
    "disk full in a checkpoint": Kind(_on_disk(Storage.nearly_fill), _mended(Storage.empty), disk=True),
    "storage lost": Kind(_on_disk(Storage.go_away), _mended(Storage.come_back), disk=True),
}
