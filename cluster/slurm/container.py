"""How a command is run in a container. The job itself stays outside: it needs SLURM's own programs to requeue."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from distcond.config.setting import read
from distcond.errors import ConfigError
from distcond.registry import unknown

_FORMS = ("apptainer", "pyxis", "enroot")
_WORDS = ("form", "image", "python", "mounts", "options")
#: Runs the words behind it, and tells them once, by one signal, what it hears by another; its status is theirs.
_RELAY = (
    'trap "" {deaf}; "$@" & run=$!; trap \'trap "" {heard}; kill -{sent} $run\' {heard}; '
    "while wait $run; status=$?; [ $status -gt 128 ] && kill -0 $run 2>/dev/null; do :; done; exit $status"
)


@dataclass(frozen=True)
class Container:
    """An image and how it is entered.

    Attributes:
        form: "apptainer", "pyxis" (a step of SLURM's with its container plugin) or "enroot" (without the plugin).
        image: a file or, with pyxis, also the address of a registry.
        python: the interpreter in the image.
        mounts: what is seen inside, as SOURCE:TARGET.
        options: more words for the container program, such as `--nv`.
    """

    form: str
    image: str
    python: str = "python"
    mounts: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    def command(self, cpus: int) -> list[str]:
        """The words to put before a command of so many CPU cores."""
        if self.form == "apptainer":
            binds = [word for mount in self.mounts for word in ("--bind", mount)]
            return ["apptainer", "exec", *self.options, *binds, self.image]
        if self.form == "enroot":
            binds = [word for mount in self.mounts for word in ("--mount", mount)]
            return ["enroot", "start", *self.options, *binds, self.image]
        # A step of its own beside the job's, on the same node and the same cores. On SIGTERM srun kills its tasks, but
        # it passes SIGUSR1 on. And SLURM signals every step itself: the run must not be asked twice, nor by SIGUSR2.
        node = os.environ.get("SLURMD_NODENAME", "$SLURMD_NODENAME")
        step = ["srun", "--overlap", f"--nodelist={node}", "--nodes=1", "--ntasks=1", f"--cpus-per-task={cpus}"]
        mounted = [f"--container-mounts={','.join(self.mounts)}"] if self.mounts else []
        step += ["--export=ALL", f"--container-image={self.image}", *mounted, *self.options]
        return [*_relay("USR2", "TERM", "USR1"), *step, *_relay("USR1 USR2", "USR1 TERM", "TERM")]


def _relay(deaf: str, heard: str, sent: str) -> list[str]:
    return ["sh", "-c", _RELAY.format(deaf=deaf, heard=heard, sent=sent), "sh"]


def read_container(given: Mapping[str, Any], where: str) -> Container:
    """The `[container]` table of a profile.

    Raises:
        ConfigError: an unknown key or form, or no image.
    """
    for key in given:
        if key not in _WORDS:
            raise ConfigError(f"{where}: {unknown('key', f'container.{key}', [f'container.{w}' for w in _WORDS])}")
    if given.get("form") not in _FORMS:
        raise ConfigError(f"{where}: {unknown('value for container.form', str(given.get('form')), _FORMS)}")
    if not given.get("image"):
        raise ConfigError(f"{where}: container.image is missing; name the image to run in")
    lists = {key: tuple(read(f"container.{key}", given.get(key, ()), tuple[str, ...])) for key in ("mounts", "options")}
    python = read("container.python", given.get("python", "python"), str)
    return Container(given["form"], read("container.image", given["image"], str), python, **lists)
