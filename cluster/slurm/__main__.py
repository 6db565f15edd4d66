"""Sweeps on SLURM: the commands of `python -m cluster.slurm`; `--help` lists them."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence

from cluster.slurm.command_line import parse_command, parse_request, parse_sweep_args
from distcond.config.command_line import run_cli
from distcond.errors import ConfigError


def main(argv: Sequence[str]) -> int:
    """Run one command. Returns its exit status."""
    command, args = parse_command(argv)
    commands = {
        "plan": plan, "submit": submit, "status": status, "logs": logs, "retry": retry, "cancel": cancel,
        "gather": gather,
    }  # fmt: skip
    try:
        return commands[command](args)
    except ModuleNotFoundError as error:
        if error.name != "submitit":
            raise
        raise ConfigError("submitit is not installed here: pip install submitit") from error


def plan(args: Sequence[str]) -> int:
    """Print what would be submitted."""
    from cluster.slurm.process import run_command
    from cluster.slurm.sbatch import sbatch_text
    from cluster.slurm.status import runs_table
    from cluster.slurm.submit import plan_runs

    sweep, request, profile, _ = parse_request(args)
    runs = plan_runs(sweep, request, profile)
    print(sbatch_text(profile, "distcond", sweep.jobs, len(runs)) if profile.executor == "slurm" else "local processes")
    print(f"the first run, in each of its {profile.tasks} task(s):\n  {shlex.join(run_command(runs[0], profile))}\n")
    print(f"{len(runs)} run(s) below {sweep.path}; nothing is submitted\n\n{runs_table(runs)}")
    return 0


def submit(args: Sequence[str]) -> int:
    """Submit the runs that were not submitted before."""
    from cluster.slurm.submit import submit_sweep

    sweep, request, profile, again = parse_request(args)
    submitted = submit_sweep(sweep, request, profile, again)
    before = len(sweep.runs) - len(submitted)
    note = f", {before} submitted or finished before (--again for all, `retry` for those that failed)" if before else ""
    print(f"{len(submitted)} of {len(sweep.runs)} runs submitted{note}\npython -m cluster.slurm status {sweep.path}")
    return 0


def status(args: Sequence[str]) -> int:
    """Print the status of the runs."""
    from cluster.slurm.status import run_statuses, status_table

    parsed = parse_sweep_args(args, flag="all")
    print(status_table(run_statuses(parsed.sweep), parsed.all), end="")
    return 0


def logs(args: Sequence[str]) -> int:
    """Print the last lines of a run's last job."""
    from cluster.slurm.status import last_lines

    parsed = parse_sweep_args(args, more="run", number="lines")
    print(last_lines(parsed.sweep, parsed.sweep.run(parsed.run), parsed.lines))
    return 0


def retry(args: Sequence[str]) -> int:
    """Submit failed and missing runs again, into the same directories."""
    from cluster.slurm.sbatch import require_slurm
    from cluster.slurm.status import count_states, run_statuses
    from cluster.slurm.submit import is_claimed, submit_runs

    sweep = parse_sweep_args(args).sweep
    require_slurm(sweep.profile)
    with sweep.exclusive():
        statuses = run_statuses(sweep)
        again = [one.run for one in statuses if one.state in ("failed", "missing") and not is_claimed(one.run, sweep)]
        submit_runs(sweep, again)
    result = f"{len(again)} submitted again" if again else "nothing to retry"
    print(f"{count_states(statuses)}; {result}")
    return 0


def cancel(args: Sequence[str]) -> int:
    """Cancel the jobs of runs."""
    from cluster.slurm.submit import cancel_runs

    parsed = parse_sweep_args(args, more="runs*")
    cancelled = cancel_runs(parsed.sweep, [parsed.sweep.run(key) for key in parsed.runs] or parsed.sweep.runs)
    print(f"{cancelled} job(s) cancelled" if cancelled else "no running or waiting job of these runs")
    return 0


def gather(args: Sequence[str]) -> int:
    """Gather the rows of all runs and print the report."""
    from cluster.slurm.gather import gather as gather_sweep

    sweep = parse_sweep_args(args).sweep
    sweep.manifest  # noqa: B018  raises without a sweep
    print(gather_sweep(sweep))
    return 0


if __name__ == "__main__":
    run_cli(lambda: main(sys.argv[1:]))
