"""docker/Dockerfile is built, and what it makes is run: the commands, the embedded default, a cluster of two."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from distcond import __version__

yaml = pytest.importorskip("yaml", reason="PyYAML reads cluster/compose.yaml")

ROOT = Path(__file__).parents[2]
PYTHON = "/opt/distcond/bin/python"
RAY = next(line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.startswith("ray=="))[5:]
COMPOSE = yaml.safe_load((ROOT / "cluster" / "compose.yaml").read_text())["services"]

SMALL = (
    "epochs=1", "train_examples=128", "model.widths=4,8", "attack.num_steps=1", "eval.every=0", "eval.lam_grid=0,1",
    "eval.val_examples=32", "eval.val_steps=1", "eval.test_examples=32", "eval.attack.num_steps=1",
)  # fmt: skip

pytestmark = [pytest.mark.cluster, pytest.mark.ray, pytest.mark.timeout(3600)]


@pytest.fixture(scope="session")
def networks() -> Iterator[tuple[str, str]]:
    """Two network namespaces with a wire between them: 192.0.2.1 and 192.0.2.2, and nothing else in the world."""
    names = (f"dc{os.getpid()}a", f"dc{os.getpid()}b")
    try:
        for name in names:
            _ip("netns", "add", name)
        _ip("link", "add", "wire", "netns", names[0], "type", "veth", "peer", "name", "wire", "netns", names[1])
        for name, own, other in ((names[0], 1, 2), (names[1], 2, 1)):
            _ip("-n", name, "address", "add", f"192.0.2.{own}/24", "dev", "wire")
            for device in ("lo", "wire"):
                _ip("-n", name, "link", "set", device, "up")
            _ip("-n", name, "route", "add", "default", "via", f"192.0.2.{other}")  # Ray looks which address leads out
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)


@pytest.fixture
def alone(image: Any, networks: tuple[str, str]) -> Any:
    """A container by itself, without a network."""
    return image.container("head", networks[0])


def test_what_is_in_the_image(image: Any, alone: Any) -> None:
    config = image.config()
    assert config["User"] == "1000:1000" and config["WorkingDir"] == "/home/distcond"
    assert config["Cmd"] == [PYTHON, "-m", "distcond.train"]
    assert not config.get("Entrypoint")  # KubeRay and Apptainer bring their own command
    assert config["Labels"]["org.opencontainers.image.revision"] == "tested"
    assert alone.run("id").startswith("uid=1000(distcond) gid=1000(distcond)")
    code = "import sys, ffcv, distcond, torch; print(distcond.__version__, torch.version.cuda, sys.prefix)"
    assert alone.run(PYTHON, "-c", code).split()[-3:] == [__version__, "None", "/opt/distcond"]
    # As KubeRay starts it and as it looks after it, with a login shell and without.
    assert f"version {RAY}" in alone.run("/bin/bash", "-c", "--", "wget --version >/dev/null && ray --version")
    assert "/opt/distcond/bin/ray" in alone.run("/bin/bash", "-lc", "--", "command -v wget ray")
    left = alone.run(
        "/bin/sh", "-c", f"{PYTHON} -m pip list; ls /build /wheel /tmp/build /tmp/wheel 2>&1; which g++; true"
    )
    assert "torchvision" not in left and "nvidia" not in left
    assert left.count("No such file or directory") == 4 and "/g++" not in left


def test_the_embedded_default_runs_to_its_table(image: Any, alone: Any) -> None:
    output = alone.run(*image.config()["Cmd"], *SMALL)
    assert "epoch 1/1" in output and "float_digits" in output, output
    table = re.findall(r"^ *(\S+) +\d+\.\d+ \+- ", output, re.MULTILINE)
    assert [float(lam) for lam in table[-2:]] == [0, 1], output


def test_a_job_on_a_cluster_of_two_containers(image: Any, networks: tuple[str, str], tmp_path: Path) -> None:
    """As cluster/compose.yaml has it: its commands, one home, a token."""
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, 1000, 1000)
    # Two commands that begin at once in one container pull its mounts from under each other: checks have their own.
    head, worker, client, checker = (
        image.container(name, network, f"{home}:/home/distcond")
        for name, network in zip(("head", "worker", "head", "worker"), (*networks, *networks), strict=True)
    )
    locked = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    locked["GRPC_DNS_RESOLVER"] = "native"  # names stand in a file here, and no server answers
    where = {"RAY_API_SERVER_ADDRESS": "http://head:8265"}
    nodes: dict[str, Any] = {}
    try:
        for service, container, asking in (("head", head, client), ("worker", worker, checker)):
            nodes[service] = _healthy(service, container, asking, locked)
        submit = ["ray", "job", "submit", "--", PYTHON, "-m", "distcond.train"]
        output = client.run(*submit, "launch.workers=2", *SMALL, **locked, **where)
        assert "joining Ray ..." in output and "epoch 1/1" in output and "succeeded" in output
        (run,) = (home / "runs").iterdir()
        assert (run / "finished.json").exists()
        refused = client.start(*submit, "seed=1", **{**locked, "RAY_AUTH_TOKEN": "0" * 64}, **where)
        assert refused.end(300) == 1 and "token" in refused.output.lower()
    finally:
        for node in reversed(nodes.values()):
            node.end()


def _healthy(service: str, container: Any, asking: Any, locked: dict[str, str]) -> Any:
    """Start a node; it, once the check that cluster/compose.yaml has for it passes.

    One that ends before is started again, twice at most: Ray gives a node 30 seconds to come up, whatever the machine.
    """
    _, *check = COMPOSE[service]["healthcheck"]["test"]
    node, left, deadline = container.start(*COMPOSE[service]["command"], **locked), 2, time.monotonic() + 900
    while (asked := asking.start(*check)).end(60) != 0 or node.process.poll() is not None:
        if node.process.poll() is not None:
            assert "timed out during startup" in node.output and left, node.output[-4000:]
            node, left = container.start(*COMPOSE[service]["command"], **locked), left - 1
        if time.monotonic() > deadline:
            node.end()
            raise AssertionError(node.output[-4000:] + asked.output)
        time.sleep(1)
    return node


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
