"""Images are built and run here by buildah alone: no engine, no daemon, no registry, and nothing left behind."""

from __future__ import annotations

import json
import os
import secrets
import shlex
import shutil
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.debian import bootstrap, unreachable_mirror
from support.processes import LIMIT

ROOT = Path(__file__).parents[2]
TOOLS = ("buildah", "ip", "mmdebstrap", "unshare")
#: Of disk that a build takes at its peak, with some to spare, and of memory that its passing files may take instead.
DISK, MEMORY = 12, 12

#: Takes the place of the Python image: Debian's Python under the same names.
STAND_IN = "localhost/python-stand-in"
#: The two ends of `networks`.
HOSTS = "127.0.0.1 localhost\n192.0.2.1 head\n192.0.2.2 worker\n"

#: What a process of a container is started with: its own processes and shared memory.
ALONE = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--ipc", "sh", "-c")
SETTLE = 'mount -t tmpfs -o size=1g,mode=1777 "$0" /dev/shm && exec "$@"'

#: What buildah is started with where memory is plenty: a layer is written twice before it is unpacked.
IN_MEMORY = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o size=8g tmpfs "$0" && exec "$@"')


@dataclass(frozen=True)
class Store:
    """A place for images that nobody else uses."""

    work: Path

    @property
    def command(self) -> list[str]:
        """buildah, as it has to be called; it unpacks layers in TMPDIR, and leaves folders there when it is killed."""
        store, run = self.work / "store", self.work / "run"
        buildah = ["buildah", f"--root={store}", f"--runroot={run}", "--storage-driver=overlay"]
        return ["env", f"TMPDIR={self.work / 'tmp'}", *buildah]

    def __call__(self, *words: str) -> str:
        """What buildah prints."""
        before = [*IN_MEMORY, str(self.work / "tmp")] if _free_memory() > MEMORY else []
        command = [*before, *self.command, *words]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, f"buildah {shlex.join(words)}\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
        return done.stdout.strip()


@dataclass(frozen=True)
class Image:
    """An image that was built."""

    store: Store
    name: str

    def config(self) -> dict[str, Any]:
        """What it says of itself: Cmd, User, Env, WorkingDir."""
        found: dict[str, Any] = json.loads(self.store("inspect", "--type=image", self.name))["OCIv1"]["config"]
        return found

    def container(self, host: str, network: str, *mounts: str) -> Container:
        """A new container called `host` in a network namespace; mounts are HERE:THERE[:ro]."""
        return Container(self.store, self.store("from", "--pull-never", self.name), host, network, mounts)


@dataclass(frozen=True)
class Container:
    """A container; each command in it has processes of its own, which end with the command."""

    store: Store
    name: str
    host: str
    network: str
    mounts: tuple[str, ...]

    def start(self, *words: str, **variables: str) -> Running:
        """Start a command as the image's user."""
        mounts = (f"{self.store.work / 'hosts'}:/etc/hosts:ro", *self.mounts)
        given = [f"--volume={mount}" for mount in mounts] + [f"--env={k}={v}" for k, v in variables.items()]
        run = [*self.store.command, "run", "--isolation=chroot", f"--hostname={self.host}", "--no-hosts"]
        log = self.store.work / f"log-{secrets.token_hex(4)}"
        with open(log, "w") as file:
            before = ["ip", "netns", "exec", self.network, *ALONE, SETTLE, "shm"]
            command = [*before, *run, *given, self.name, "--", *words]
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
        return Running(process, log)

    def run(self, *words: str, seconds: float = 900, **variables: str) -> str:
        """What a command prints that must succeed."""
        running = self.start(*words, **variables)
        status = running.end(seconds)
        assert status == 0, f"{shlex.join(words)}: {status}\n{running.output[-6000:]}"
        return running.output


@dataclass(frozen=True)
class Running:
    """A command in a container; what it prints goes to a file, since nobody reads along."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def output(self) -> str:
        """All that it has printed."""
        return self.log.read_text(errors="replace")

    def end(self, seconds: float = 0) -> int:
        """Its status, after `seconds` at the latest: then it is killed, and all that it has started."""
        try:
            return self.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


@pytest.fixture(scope="session")
def store() -> Iterator[Store]:
    """A store, gone afterwards; skips where images cannot be built."""
    reason = _why_not()
    if reason:
        pytest.skip(f"no image can be built here: {reason}")
    made = Store(Path(tempfile.mkdtemp(prefix="distcond-image-", dir="/var/tmp")))
    (made.work / "tmp").mkdir()
    (made.work / "hosts").write_text(HOSTS)
    try:
        yield made
    finally:
        for words in (["rm", "--all"], ["rmi", "--all", "--force"]):
            subprocess.run([*made.command, *words], capture_output=True)
        shutil.rmtree(made.work)


@pytest.fixture(scope="session")
def image(store: Store) -> Image:
    """docker/Dockerfile as it is, on a stand-in for its base image."""
    torch = _cpu_torch()
    if not torch:
        pytest.skip("no image can be built here: pip finds no CPU build of torch (PIP_EXTRA_INDEX_URL, PIP_FIND_LINKS)")
    _stand_in(store)
    made = Image(store, "localhost/distcond:test")
    arguments = [f"--build-arg={word}" for word in (f"BASE_IMAGE={STAND_IN}", f"TORCH=torch=={torch}", "COMMIT=tested")]
    mounts = [f"--volume={mount}" for mount in _pip(store.work / "pip")]
    store(
        *["bud", "--isolation=chroot", "--pull-never", *mounts, *arguments],
        *["--file=docker/Dockerfile", f"--tag={made.name}", "."],
    )
    return made


def _why_not() -> str:
    if os.geteuid() != 0:
        return "it takes root"
    missing = [tool for tool in TOOLS if not shutil.which(tool)]
    if missing:
        return f"not installed: {', '.join(missing)} (apt-get install buildah iproute2 mmdebstrap util-linux)"
    if not any(path.exists() for path in _sources()):
        return "the stand-in for the base image is made from the machine's own Debian or Ubuntu sources"
    gigabytes = DISK if _free_memory() > MEMORY else DISK + 6
    if shutil.disk_usage("/var/tmp").free < gigabytes * 10**9:
        return f"/var/tmp has less than {gigabytes} GB"
    allowed = subprocess.run(
        ["unshare", "--mount", "--net", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True
    )
    return "" if allowed.returncode == 0 else "root may not mount here"


def _free_memory() -> float:
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return int(lines["MemAvailable"].split()[0]) * 1024 / 10**9


def _sources() -> list[Path]:
    apt = Path("/etc/apt")
    return [apt / "sources.list.d/debian.sources", apt / "sources.list.d/ubuntu.sources", apt / "sources.list"]


def _stand_in(store: Store) -> None:
    source = next(path for path in _sources() if path.exists())
    reason = unreachable_mirror(source)
    if reason:
        pytest.skip(f"no image can be built here: {reason}")
    bootstrap(source, store.work / "base.tar")
    container = store("from", "scratch")
    store("add", "--quiet", container, str(store.work / "base.tar"), "/")
    path = "PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
    store("config", f"--env={path}", "--env=LANG=C.UTF-8", "--cmd=python3", container)
    store("commit", "--quiet", "--rm", container, STAND_IN)
    (store.work / "base.tar").unlink()


def _cpu_torch() -> str:
    """The newest version of torch for CPUs alone that this machine's pip finds, or nothing."""
    pip = [sys.executable, "-m", "pip", "index", "versions", "torch"]
    found = subprocess.run(pip, capture_output=True, text=True, timeout=LIMIT)
    assert found.returncode == 0 or "No matching distribution" in found.stderr, found.stderr
    return next((word for word in found.stdout.replace(",", " ").split() if word.endswith("+cpu")), "")


def _pip(folder: Path) -> list[str]:
    """Mounts that show a build this machine's indexes and certificates; an empty directory is all that remains."""
    folder.mkdir()
    done = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True)
    settings: dict[str, str] = {}
    mounts = [f"{folder}:/etc/xdg/pip:ro"]
    for line in done.stdout.splitlines():  # the environment's come first
        key, _, value = line.partition("=")
        name, text = key.rpartition(".")[2], value.strip("'").replace("\\n", " ")
        if name in ("index-url", "extra-index-url", "find-links", "trusted-host") and text:
            settings.setdefault(name, text)
            places = [Path(word.removeprefix("file://")) for word in text.split()]
            # An index links to files beside it.
            places = [place.parent if place.name == "simple" else place for place in places if place.is_absolute()]
            mounts += [f"{place}:{place}:ro" for place in places]
    certificates = os.environ.get("SSL_CERT_FILE") or ssl.get_default_verify_paths().cafile
    if certificates:
        shutil.copy(certificates, folder / "ca.crt")
        settings["cert"] = "/etc/xdg/pip/ca.crt"
    lines = [f"{name} = {text}\n" for name, text in settings.items()]
    (folder / "pip.conf").write_text("[global]\n" + "".join(lines))
    return list(dict.fromkeys(mounts))
