"""One job that explores a search space: `distcond.tune` on the Ray of the job's nodes."""

from __future__ import annotations

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
    from distcond.launch.capacity import Capacity
    from distcond.launch.tune.sweep import planned
    from distcond.tune import asked

    run_dir = sweep / "runs" / "tune"
    if not (run_dir / "sweep.json").exists():
        node = Capacity(profile.cpus_per_task, profile.gpus_per_node, "a job of this profile")
        # What this machine, a login node, has says nothing.
        planned(*asked([*ask.words, f"dir={run_dir}"]), [node] * profile.nodes if profile.executor == "slurm" else [])
    return Run("tune", str(run_dir), "tune", {}, tuple(ask.words))
