"""Sweeps on SLURM: `python -m cluster.slurm --help`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence

from cluster.slurm.command_line import asked, command_of, simple
from distcond.config.command_line import guarded
from distcond.errors import ConfigError


def main(argv: Sequence[str]) -> int:
    """One command; its exit status."""
    command, words = command_of(argv)
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
    from cluster.slurm.executor import sbatch_text
    from cluster.slurm.order import planned
    from cluster.slurm.surroundings import command
    from cluster.slurm.table import runs_table

    sweep, ask, profile, _ = asked(words)
    runs = planned(sweep, ask, profile)
    print(sbatch_text(profile, "distcond", sweep.jobs, len(runs)) if profile.executor == "slurm" else "local processes")
    print(f"the first run, in each of its {profile.tasks} task(s):\n  {shlex.join(command(runs[0], profile))}\n")
    print(f"{len(runs)} run(s) below {sweep.path}; nothing is submitted\n\n{runs_table(runs)}")
    return 0


def submit(words: Sequence[str]) -> int:
    """Submit what was not submitted before."""
    from cluster.slurm.order import order

    sweep, ask, profile, again = asked(words)
    sent = order(sweep, ask, profile, again)
    before = len(sweep.runs) - len(sent)
    left = f", {before} submitted or finished before (--again for all, `retry` for those that failed)" if before else ""
    print(f"{len(sent)} of {len(sweep.runs)} runs submitted{left}\npython -m cluster.slurm status {sweep.path}")
    return 0


def status(words: Sequence[str]) -> int:
    """Say how the runs stand."""
    from cluster.slurm.state import standings
    from cluster.slurm.table import standing_table

    found = simple(words, flag="all")
    print(standing_table(standings(found.sweep), found.all), end="")
    return 0


def logs(words: Sequence[str]) -> int:
    """Print the end of what a run's last job wrote."""
    from cluster.slurm.logs import last_lines

    found = simple(words, rest="run", number="lines")
    print(last_lines(found.sweep, found.sweep.run(found.run), found.lines))
    return 0


def retry(words: Sequence[str]) -> int:
    """Submit the failed and the missing again, into the same directories."""
    from cluster.slurm.executor import check_there
    from cluster.slurm.order import claimed, send
    from cluster.slurm.state import standings
    from cluster.slurm.table import counts

    sweep = simple(words).sweep
    check_there(sweep.profile)
    with sweep.alone():
        found = standings(sweep)
        again = [one.run for one in found if one.state in ("failed", "missing") and not claimed(one.run, sweep)]
        send(sweep, again)
    print(f"{counts(found)}; {len(again)} submitted again" if again else f"{counts(found)}; nothing to retry")
    return 0


def cancel(words: Sequence[str]) -> int:
    """End jobs."""
    from cluster.slurm.cancel import cancel as end

    found = simple(words, rest="runs*")
    ended = end(found.sweep, [found.sweep.run(word) for word in found.runs] or found.sweep.runs)
    print(f"{ended} job(s) cancelled" if ended else "no job of theirs runs or waits")
    return 0


def gather(words: Sequence[str]) -> int:
    """Bring the rows together and report."""
    from cluster.slurm.gather import gather as bring

    sweep = simple(words).sweep
    if not sweep.exists:
        raise ConfigError(f"{sweep.path}: no sweep here (slurm.json is missing); name the directory of `submit`")
    print(bring(sweep))
    return 0


if __name__ == "__main__":
    guarded(lambda: main(sys.argv[1:]))
