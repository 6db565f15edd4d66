"""The kinds of fault, injected into a real run, and the repair before the command is given again."""

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
    """A run, its disk and, optionally, its cluster."""

    victim: Victim
    disk: Storage | None
    nodes: Any
    source: random.Random


class Kind(NamedTuple):
    """One kind of fault.

    Attributes:
        inject: Injects the fault; False if the run had already ended.
        repair: The repair before the same command is given again.
        launchers: The launchers under which it can happen.
        nodes: Whether it needs a cluster of several nodes.
        disk: Whether it needs its own disk.
        prepare: Environment variables, for a fault that comes from inside the run.
    """

    inject: Callable[[Scene], bool]
    repair: Callable[[Scene], None] = lambda scene: None
    launchers: tuple[str, ...] = ("local", "ray")
    nodes: bool = False
    disk: bool = False
    prepare: Callable[[random.Random], dict[str, str]] = lambda source: {}


def _signal_worker(number: int) -> Callable[[Scene], bool]:
    def inject(scene: Scene) -> bool:
        worker = scene.victim.wait_for_workers(scene.source)
        return worker is not None and _send(worker, number)

    return inject


def _signal_driver(number: int) -> Callable[[Scene], bool]:
    def inject(scene: Scene) -> bool:
        driver = scene.victim.process
        return driver is not None and driver.poll() is None and _send(driver.pid, number)

    return inject


def _kill_everything(scene: Scene) -> bool:
    running = scene.victim.process is not None and scene.victim.process.poll() is None
    scene.victim.kill_all()
    return running


def _replace_node(scene: Scene) -> bool:
    over = scene.victim.process is None or scene.victim.process.poll() is not None
    if not over:
        last = max(scene.nodes.nodes)
        scene.nodes.lose(last)
        scene.nodes.add(last + 1)
    return not over


def _on_disk(fault: Callable[[Storage], None]) -> Callable[[Scene], bool]:
    def inject(scene: Scene) -> bool:
        assert scene.disk is not None
        running = scene.victim.process is not None and scene.victim.process.poll() is None
        if running:
            fault(scene.disk)
        return running

    return inject


def _repair_disk(repair: Callable[[Storage], None]) -> Callable[[Scene], None]:
    def repair_scene(scene: Scene) -> None:
        assert scene.disk is not None
        repair(scene.disk)

    return repair_scene


def _fault_variables(source: random.Random) -> dict[str, str]:
    return {"FAULT": "chance", "FAULT_STEP": str(source.randint(1, 30)), "FAULT_RANK": str(source.randint(0, 1))}


def _send(process: int, number: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, number)
        return True
    return False


def _already_injected(scene: Scene) -> bool:
    return True  # the run raises it itself


KINDS = {
    "worker exception": Kind(_already_injected, prepare=_fault_variables),
    "worker SIGKILL": Kind(_signal_worker(signal.SIGKILL)),
    "worker hangs (SIGSTOP)": Kind(_signal_worker(signal.SIGSTOP)),
    "driver SIGTERM": Kind(_signal_driver(signal.SIGTERM)),
    "driver SIGKILL": Kind(_signal_driver(signal.SIGKILL), launchers=("ray",)),
    "everything SIGKILL": Kind(_kill_everything),
    "node lost (another comes)": Kind(_replace_node, launchers=("ray",), nodes=True),
    "disk full": Kind(_on_disk(Storage.fill), _repair_disk(Storage.empty), disk=True),
    "disk full in a checkpoint": Kind(_on_disk(Storage.nearly_fill), _repair_disk(Storage.empty), disk=True),
    "storage lost": Kind(_on_disk(Storage.go_away), _repair_disk(Storage.come_back), disk=True),
}
