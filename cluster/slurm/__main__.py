"""Sweeps on SLURM: `python -m cluster.slurm --help`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence

from cluster.slurm.command_line import parse_command, parse_request, parse_sweep_args
from distcond.config.command_line import run_cli
from distcond.errors import ConfigError


def main(argv: Sequence[str]) -> int:
    """One command; its exit status."""
    command, words = parse_command(argv)
    commands = {
        "plan": plan, "submit": submit, "status": status, "logs": logs, "retry": retry, "cancel": cancel,
        "gather": gather,
    }  # fmt: skip
    try:
        return commands[command](words)
    except ModuleNotFoundError as error:
        if error.name != "submitit":
            raise
        raise ConfigError("submitit is not installed here: pip install submitit") from error


def plan(words: Sequence[str]) -> int:
    """Show what would be submitted."""
    from cluster.slurm.process import run_command
    from cluster.slurm.sbatch import sbatch_text
    from cluster.slurm.status import runs_table
    from cluster.slurm.submit import plan_runs

    sweep, ask, profile, _ = parse_request(words)
    runs = plan_runs(sweep, ask, profile)
    print(sbatch_text(profile, "distcond", sweep.jobs, len(runs)) if profile.executor == "slurm" else "local processes")
    print(f"the first run, in each of its {profile.tasks} task(s):\n  {shlex.join(run_command(runs[0], profile))}\n")
    print(f"{len(runs)} run(s) below {sweep.path}; nothing is submitted\n\n{runs_table(runs)}")
    return 0


def submit(words: Sequence[str]) -> int:
    """Submit what was not submitted before."""
    from cluster.slurm.submit import submit_sweep

    sweep, ask, profile, again = parse_request(words)
    sent = submit_sweep(sweep, ask, profile, again)
    before = len(sweep.runs) - len(sent)
    left = f", {before} submitted or finished before (--again for all, `retry` for those that failed)" if before else ""
    print(f"{len(sent)} of {len(sweep.runs)} runs submitted{left}\npython -m cluster.slurm status {sweep.path}")
    return 0


def status(words: Sequence[str]) -> int:
    """Say how the runs stand."""
    from cluster.slurm.status import run_statuses, status_table

    found = parse_sweep_args(words, flag="all")
    print(status_table(run_statuses(found.sweep), found.all), end="")
    return 0


def logs(words: Sequence[str]) -> int:
    """Print the end of what a run's last job wrote."""
    from cluster.slurm.status import last_lines

    found = parse_sweep_args(words, rest="run", number="lines")
    print(last_lines(found.sweep, found.sweep.run(found.run), found.lines))
    return 0


def retry(words: Sequence[str]) -> int:
    """Submit the failed and the missing again, into the same directories."""
    from cluster.slurm.sbatch import require_slurm
    from cluster.slurm.status import count_states, run_statuses
    from cluster.slurm.submit import is_claimed, submit_runs

    sweep = parse_sweep_args(words).sweep
    require_slurm(sweep.profile)
    with sweep.exclusive():
        found = run_statuses(sweep)
        again = [one.run for one in found if one.state in ("failed", "missing") and not is_claimed(one.run, sweep)]
        submit_runs(sweep, again)
    print(
        f"{count_states(found)}; {len(again)} submitted again" if again else f"{count_states(found)}; nothing to retry"
    )
    return 0


def cancel(words: Sequence[str]) -> int:
    """End jobs."""
    from cluster.slurm.submit import cancel_runs as end

    found = parse_sweep_args(words, rest="runs*")
    ended = end(found.sweep, [found.sweep.run(word) for word in found.runs] or found.sweep.runs)
    print(f"{ended} job(s) cancelled" if ended else "no job of theirs runs or waits")
    return 0


def gather(words: Sequence[str]) -> int:
    """Bring the rows together and report."""
    from cluster.slurm.gather import gather as bring

    sweep = parse_sweep_args(words).sweep
    if not sweep.exists:
        raise ConfigError(f"{sweep.path}: no sweep here (slurm.json is missing); name the directory of `submit`")
    print(bring(sweep))
    return 0


if __name__ == "__main__":
    run_cli(lambda: main(sys.argv[1:]))
