"""One job that explores a search space: `distcond.tune` on the Ray of the job's nodes."""

from __future__ import annotations

import contextlib
import io
from importlib.util import find_spec
from pathlib import Path

from cluster.slurm.grid import Ask
from cluster.slurm.identify import Run
from cluster.slurm.profile import Profile
from distcond.errors import ConfigError


def exploration(ask: Ask, sweep: Path, profile: Profile) -> Run:
    """The job as a run. Its words are checked by `distcond.tune` itself.

    Raises:
        ConfigError: they are not valid, or the profile spreads the job in another way.
    """
    if ask.grid or ask.seeds or ask.space or ask.trials:
        raise ConfigError("--tune: its words are those of distcond.tune; no --grid, --seeds, --space or --trials")
    if profile.mode == "plain" and profile.tasks > 1:
        raise ConfigError(
            f"--tune: {profile.tasks} tasks with mode=plain would explore {profile.tasks} times; valid: ray"
        )
    if any(word.startswith("dir=") for word in ask.words):
        raise ConfigError("dir: not a word of --tune: the sweep directory decides it")
    if find_spec("distcond.tune") is None:
        raise ConfigError("--tune: this distcond has no distcond.tune")
    from distcond.tune import main

    run_dir = sweep / "runs" / "tune"
    if not (run_dir / "sweep.json").exists():
        with contextlib.redirect_stdout(io.StringIO()):
            main([*ask.words, f"dir={run_dir}", "--show"])
    return Run("tune", str(run_dir), "tune", {}, tuple(ask.words))
