"""What makes `sacct` answer: slurmdbd with a MariaDB of its own, reached through a socket file alone."""

from __future__ import annotations

import subprocess

import daemons
from place import CONF, ROOT

_SMALL = (
    "--innodb-buffer-pool-size=16M", "--innodb-log-file-size=16M", "--innodb-flush-log-at-trx-commit=0",
    "--innodb-lock-wait-timeout=900", "--performance-schema=OFF", "--key-buffer-size=1M",
    "--aria-pagecache-buffer-size=2M", "--max-connections=20",
)  # fmt: skip


def start() -> None:
    """Make the database and start both.

    Raises:
        RuntimeError: they do not come up.
    """
    data, socket = ROOT / "db", ROOT / "db.socket"
    common = ["--no-defaults", "--user=root", f"--datadir={data}"]
    root = ["--auth-root-authentication-method=socket", "--auth-root-socket-user=root"]
    subprocess.run(["mariadb-install-db", *common, "--skip-test-db", *root], check=True, capture_output=True)
    server = ["/usr/sbin/mariadbd", *common, f"--socket={socket}", "--skip-networking", *_SMALL]
    daemons.start("mariadbd", [*server, f"--log-error={ROOT}/db.log"])
    if not daemons.wait(socket.exists, 60):
        raise RuntimeError("MariaDB does not come up")
    # slurmdbd.conf has no word for a socket file.
    daemons.start("slurmdbd", ["/usr/sbin/slurmdbd", "-D"], {"MYSQL_UNIX_PORT": str(socket), "SLURM_CONF": str(CONF)})
    if not daemons.wait(_answers, 60):
        raise RuntimeError("slurmdbd does not come up")


def _answers() -> bool:
    ask, where = ["sacctmgr", "--noheader", "show", "cluster"], {"SLURM_CONF": str(CONF), "PATH": "/usr/bin:/bin"}
    return subprocess.run(ask, env=where, capture_output=True).returncode == 0
