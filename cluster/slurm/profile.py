"""Site profiles (partition, account, modules, container) as small TOML files.

Only the training runs in the container. The job runs outside, where it finds SLURM's programs to requeue itself.
"""

from __future__ import annotations

import dataclasses
import os
import tomllib
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from distcond.config.fields import check_bounds, parse_value, setting
from distcond.errors import ConfigError
from distcond.registry import describe_unknown

PROFILES_FOLDER = Path(__file__).parents[1] / "profiles"

#: Seconds that SLURM may send the signal early.
SIGNAL_EARLY_SECONDS = 60

#: Seconds before the time limit in which the Ray cluster of a job is shut down.
RAY_SHUTDOWN_SECONDS = 20

#: How often submitit's local controller starts a run at most.
LOCAL_STARTS = 6

_FORMS = ("apptainer", "pyxis", "enroot")
_KEYS = ("form", "image", "python", "mounts", "options")

#: Shell code that runs its arguments, forwards one signal as another, once, and exits with their status.
_RELAY = (
    'trap "" {ignored}; "$@" & run=$!; trap \'trap "" {caught}; kill -{sent} $run\' {caught}; '
    "while wait $run; status=$?; [ $status -gt 128 ] && kill -0 $run 2>/dev/null; do :; done; exit $status"
)


@dataclass(frozen=True)
class Container:
    """A container image and how to run in it.

    Attributes:
        form: "apptainer", "pyxis" (a SLURM step with the container plugin) or "enroot" (without the plugin).
        image: a file; with pyxis also the address of an image in a registry.
        python: the interpreter in the image.
        mounts: SOURCE:TARGET.
        options: more options of the container program, such as `--nv`.
    """

    form: str
    image: str
    python: str = "python"
    mounts: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    def command(self, cpus: int) -> list[str]:
        """What to put before a command that uses so many CPU cores."""
        if self.form == "apptainer":
            binds = [arg for mount in self.mounts for arg in ("--bind", mount)]
            return ["apptainer", "exec", *self.options, *binds, self.image]
        if self.form == "enroot":
            binds = [arg for mount in self.mounts for arg in ("--mount", mount)]
            return ["enroot", "start", *self.options, *binds, self.image]
        # A step beside the job's own, on the same node and cores. On SIGTERM srun kills its tasks, but it forwards
        # SIGUSR1. SLURM also signals every step itself: the run must get SIGTERM only once, and no SIGUSR2.
        node = os.environ.get("SLURMD_NODENAME", "$SLURMD_NODENAME")
        step = ["srun", "--overlap", f"--nodelist={node}", "--nodes=1", "--ntasks=1", f"--cpus-per-task={cpus}"]
        mounts = [f"--container-mounts={','.join(self.mounts)}"] if self.mounts else []
        step += ["--export=ALL", f"--container-image={self.image}", *mounts, *self.options]
        return [*_relay("USR2", "TERM", "USR1"), *step, *_relay("USR1 USR2", "USR1 TERM", "TERM")]


def _relay(ignored: str, caught: str, sent: str) -> list[str]:
    return ["sh", "-c", _RELAY.format(ignored=ignored, caught=caught, sent=sent), "sh"]


def parse_container(values: Mapping[str, Any], where: str) -> Container:
    """The `[container]` table of a profile. `where` names the profile in messages.

    Raises:
        ConfigError: an unknown key or form, or no image.
    """
    for key in values:
        if key not in _KEYS:
            valid = [f"container.{name}" for name in _KEYS]
            raise ConfigError(f"{where}: {describe_unknown('key', f'container.{key}', valid)}")
    if values.get("form") not in _FORMS:
        raise ConfigError(f"{where}: {describe_unknown('value for container.form', str(values.get('form')), _FORMS)}")
    if not values.get("image"):
        raise ConfigError(f"{where}: container.image is missing; name the image to run in")
    lists = {
        key: tuple(parse_value(f"container.{key}", values.get(key, ()), tuple[str, ...]))
        for key in ("mounts", "options")
    }
    python = parse_value("container.python", values.get("python", "python"), str)
    return Container(values["form"], parse_value("container.image", values["image"], str), python, **lists)


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Where and with which resources jobs run. Every field is a key of the file."""

    executor: Literal["slurm", "local"] = setting("slurm", "slurm, or local = processes of this machine")
    mode: Literal["plain", "ray"] = setting("plain", "plain = a process per task (DDP); ray = Ray on the nodes")
    partition: str = setting("", "partition; empty = the site's default")
    account: str = setting("", "account that is charged")
    qos: str = setting("", "quality of service")
    constraint: str = setting("", "features that nodes must have")
    nodes: int = setting(1, "nodes of one run", ge=1)
    tasks_per_node: int = setting(1, "processes of one run on a node; with GPUs, one for each", ge=1)
    cpus_per_task: int = setting(1, "CPU cores of one process", ge=1)
    gpus_per_node: int = setting(0, "GPUs of one run on a node", ge=0)
    memory_gb: float = setting(0.0, "memory of one run on a node; 0 = the site's default", ge=0)
    time_min: int = setting(60, "time limit in minutes", ge=1)
    signal_seconds: int = setting(120, "seconds before the limit at which the run is told to save", ge=15)
    max_timeouts: int = setting(
        10, "times a run resumes after its time limit, without preemptions; local: at most 5", ge=0
    )
    parallel: int = setting(0, "runs of a sweep at a time; 0 = no limit, one with local", ge=0)
    shared_tmp: bool = setting(False, "whether all nodes see the same /tmp, so that a sweep may be there")
    trust_group: bool = setting(False, "whether others of the group may write to the sweep and what it runs")
    setup: tuple[str, ...] = setting((), "shell lines before the run, such as module load")
    srun: tuple[str, ...] = setting((), "more options of srun")
    environment: Mapping[str, str] = field(default_factory=dict, metadata={"help": "environment variables of the run"})
    sbatch: Mapping[str, Any] = field(default_factory=dict, metadata={"help": "more options of sbatch: name = value"})
    container: Container | None = setting(None, "form, image, python, mounts, options")

    @property
    def most_timeouts(self) -> int:
        """Times a run is requeued after its time limit."""
        return min(self.max_timeouts, LOCAL_STARTS - 1) if self.executor == "local" else self.max_timeouts

    @property
    def tasks(self) -> int:
        """Processes of one run."""
        return self.nodes * self.tasks_per_node


def load_profile(name: str, changes: Mapping[str, str]) -> Profile:
    """A shipped profile by its name, or a file by its path, with some keys changed.

    Raises:
        ConfigError: no such profile, or it is not valid.
    """
    file = Path(name).expanduser() if name.endswith(".toml") else PROFILES_FOLDER / f"{name}.toml"
    if not file.exists():
        shipped = sorted(found.stem for found in PROFILES_FOLDER.glob("*.toml"))
        raise ConfigError(f"{describe_unknown('profile', name, shipped)}; or a file of your own, FILE.toml")
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"profile {file}: cannot be read ({error})") from error
    return parse_profile({**values, **changes}, f"profile {name}")


def parse_profile(plain: Mapping[str, Any], where: str) -> Profile:
    """A profile from plain values. `where` names it in messages.

    Raises:
        ConfigError: an unknown key, an invalid value, or values that contradict each other.
    """
    fields = {one.name: one for one in dataclasses.fields(Profile)}
    hints = typing.get_type_hints(Profile)
    values: dict[str, Any] = {}
    for key, value in plain.items():
        if key not in fields:
            raise ConfigError(f"{where}: {describe_unknown('key', key, fields)}")
        if key == "container":
            values[key] = parse_container(value, where) if value else None
        elif key in ("environment", "sbatch"):
            values[key] = _parse_table(key, value, where)
        else:
            values[key] = parse_value(f"{where}: {key}", value, hints[key])
            check_bounds(f"{where}: {key}", values[key], fields[key].metadata)
    profile = Profile(**values)
    _check(profile, where)
    return profile


def profile_to_dict(profile: Profile) -> dict[str, Any]:
    """A profile as JSON values; `parse_profile` reads it."""
    return dataclasses.asdict(profile)


def _parse_table(key: str, value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where}: {key}={value}: needed: a table, [{key}] with lines NAME = VALUE")
    return {name: str(text) if key == "environment" else text for name, text in value.items()}


def _check(profile: Profile, where: str) -> None:
    seconds, delay = profile.time_min * 60, profile.signal_seconds
    if profile.executor == "local" and (profile.tasks > 1 or profile.gpus_per_node > 1 or profile.mode == "ray"):
        valid = "nodes=1, tasks_per_node=1, gpus_per_node=0 or 1, mode=plain"
        raise ConfigError(f"{where}: with executor=local a run is one process on this machine; valid: {valid}")
    if profile.mode == "ray" and profile.tasks_per_node > 1:
        raise ConfigError(f"{where}: tasks_per_node={profile.tasks_per_node} with mode=ray: valid: 1")
    early = SIGNAL_EARLY_SECONDS if profile.executor == "slurm" else 0
    if seconds < delay + early + SIGNAL_EARLY_SECONDS:
        least = -(-(delay + early + SIGNAL_EARLY_SECONDS) // 60)
        why = f"with signal_seconds={delay}{f', which may come {early} s early,' if early else ''} no time is left"
        raise ConfigError(f"{where}: time_min={profile.time_min}: {why} for the run; valid: time_min={least} or more")
    if profile.mode == "ray" and delay < 3 * RAY_SHUTDOWN_SECONDS:
        raise ConfigError(
            f"{where}: signal_seconds={delay}: too short to shut Ray down; valid: {3 * RAY_SHUTDOWN_SECONDS} or more"
        )
    gpus = profile.gpus_per_node
    if profile.mode == "plain" and gpus not in (0, profile.tasks_per_node):
        problem = f"with mode=plain every process has one GPU; valid: tasks_per_node={gpus}"
        raise ConfigError(f"{where}: gpus_per_node={gpus}, tasks_per_node={profile.tasks_per_node}: {problem}")
