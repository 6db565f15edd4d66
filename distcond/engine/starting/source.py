"""The weights at a path: those of a run, of one of its checkpoints, or of a file from elsewhere."""

from __future__ import annotations

import socket
from pathlib import Path

from torch import Tensor

from distcond.engine.checkpoint import averaged_statistics, load_shared
from distcond.engine.restore import find_checkpoint
from distcond.engine.run_dir import RunDir
from distcond.errors import ConfigError
from distcond.places import named
from distcond.starting_points.state_file import read_file
from distcond.starting_points.wrapping import Weights, unwrapped


def read(init_from: str) -> Weights:
    """The network that `init_from` names: a run directory's best, a checkpoint's, or the one in a file.

    Raises:
        ConfigError: nothing there that can be read; the message names the machine, since others may see other files.
    """
    try:
        with named({"init_from": init_from}):
            path = Path(init_from).expanduser().absolute()
            if path.is_dir():
                checkpoint = _checkpoint(path)
                classes = tuple(load_shared(checkpoint).get("classes", ()))
                return unwrapped(_of_checkpoint(checkpoint))._replace(classes=classes)
            if path.is_file():
                open(path, "rb").close()  # what may not be read is not damaged
                return unwrapped(read_file(path))
    except ConfigError as error:
        said = str(error)
        raise ConfigError(said if said.startswith("init_from=") else f"init_from={init_from}: {said}") from error
    wanted = "name a run directory, one of its checkpoints or a file of weights, which every worker has to see"
    raise ConfigError(f"init_from={init_from}: no such file or directory on {socket.gethostname()}; {wanted}")


def _checkpoint(folder: Path) -> Path:
    if (folder / "shared.pt").is_file():
        return folder
    run = RunDir(folder)
    if not run.checkpoints.is_dir():
        raise ConfigError("a directory without checkpoints; name a run directory or one of its checkpoints")
    return find_checkpoint(run, "best")


def _of_checkpoint(path: Path) -> dict[str, Tensor]:
    """The network a checkpoint is evaluated by: statistics averaged over ranks, weights over steps where they are."""
    shared = load_shared(path)
    state: dict[str, Tensor] = shared["model"] | averaged_statistics(path)
    if shared.get("averaged") is not None:
        mean = shared["averaged"]["parameters"] | averaged_statistics(path, "averaged")
        # An average knows nothing of masks: what is exactly zero stays zero.
        state |= {name: value if value.dim() < 2 else value * (state[name] != 0) for name, value in mean.items()}
    return state
