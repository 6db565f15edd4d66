"""A real SLURM of four nodes on this machine, for tests: `python tests/slurm_cluster install|up|down|on NODE|off NODE`.

`up` prints what the machine allows; use it with SLURM_CONF=/run/distcond-slurm/slurm.conf. Needs root. Nothing of the
machine is changed but for what `down` takes away: processes, a network bridge, /run/distcond-slurm.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys

import accounting
import conf
import daemons
import node
from install import missing
from place import CONF, NODES, ROOT, abilities, remember, remembered


def up() -> None:
    """Start everything and wait until the nodes are idle; or leave nothing behind.

    Raises:
        RuntimeError: they do not become so.
    """
    down()
    try:
        _start()
    except BaseException:
        for log in sorted((*ROOT.glob("*.log"), *ROOT.glob("*.out"))):
            print(f"{log.name}:", *log.read_text(errors="replace").splitlines()[-15:], sep="\n  ", file=sys.stderr)
        down()
        raise


def _start() -> None:
    (ROOT / "state").mkdir(parents=True)
    found = abilities()
    remember(found)
    conf.write(found)
    _munge()
    if found.accounting:
        accounting.start()
    if found.namespaces:
        node.add_bridge()
    daemons.start("slurmctld", ["/usr/sbin/slurmctld", "-D"])
    for name in NODES:
        node.on(name, found)
    if not daemons.wait(lambda: _ask("sinfo -h -p main -t idle -o %D") == str(len(NODES)), 180):
        raise RuntimeError(f"the nodes do not become idle:\n{_ask('sinfo -N -l')}")
    print(" ".join(f"{name}={value}" for name, value in found._asdict().items()))


def down() -> None:
    """End what `up` started, jobs first."""
    if not ROOT.exists():
        return
    if daemons.process_of("slurmctld"):
        _ask("scancel --signal=KILL --full --user=root")
        _ask("scancel --user=root")
        daemons.wait(lambda: _ask("squeue -h") == "", 10)
    for name in daemons.names():
        daemons.stop(name, signal.SIGKILL if name in NODES else signal.SIGTERM)
    node.remove_networks()
    shutil.rmtree(ROOT)


def _munge() -> None:
    """The service by which SLURM's parts trust each other, with a key of its own."""
    key = ROOT / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    ROOT.chmod(0o755)
    files = [f"--{what}={ROOT}/munge.{end}" for what, end in (("socket", "socket"), ("log-file", "log"))]
    files += [f"--key-file={key}", f"--pid-file={ROOT}/munge.own.pid", f"--seed-file={ROOT}/munge.seed"]
    daemons.start("munged", ["/usr/sbin/munged", "--foreground", *files])
    if not daemons.wait((ROOT / "munge.socket").exists, 20):
        raise RuntimeError("munged does not come up")


def _ask(words: str) -> str:
    try:
        return subprocess.run(words.split(), capture_output=True, text=True, timeout=20).stdout.strip()
    except subprocess.TimeoutExpired:
        return ""


def main(argv: list[str]) -> int:
    """One command; status 3 with a line on stdout where there can be no SLURM."""
    os.environ["SLURM_CONF"] = str(CONF)
    os.environ["PATH"] = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    match argv:
        case ["install" | "up" as command]:
            reason = missing()
            if reason:
                print(reason)
                return 3
            if command == "up":
                up()
        case ["down"]:
            down()
        case ["on", name] if name in NODES:
            node.on(name, remembered())
        case ["off", name] if name in NODES:
            node.off(name)
        case _:
            print(__doc__)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
