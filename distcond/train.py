"""Train a conditional network: `python -m distcond.train [RECIPE] [PATH=VALUE ...]`; see `--help`."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from distcond.config.command_line import describe, parse, run_cli
from distcond.config.schema import Config
from distcond.data.prepare import infer_from_root, prepare_data
from distcond.errors import TransientError
from distcond.init_from import initialise
from distcond.init_from.report import InitReport
from distcond.launch import driver
from distcond.launch.stopping import RunStopped
from distcond.reporting.run_report import summarise, write_report
from distcond.results import history
from distcond.results.labels import threat_model
from distcond.runs.checkpoint import latest
from distcond.runs.code_trust import take_trust
from distcond.runs.failures import LaunchFailed
from distcond.runs.remote import RemoteRun, remote_run_of
from distcond.runs.run_dir import RunDir, run_dir_for
from distcond.runs.start import pull_remote_run, started_run
from distcond.terminal_text import printable
from distcond.training.build_trainer import check_trainable

_log = logging.getLogger(__name__)


def main(argv: Sequence[str]) -> int:
    """Check the settings, prepare the data, train or resume, print the trade-off table; returns the exit status."""
    command = parse(take_trust(argv))
    if command.show:
        print(describe(command.config))
        return 0
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    if command.why:
        _log.info(command.why)
    try:
        return run_and_print(prepare_run(command.config))
    except TransientError as error:
        print(f"failed: {error}\nrun the same command again", file=sys.stderr)
        return 1


@dataclass(frozen=True)
class PreparedRun:
    """A run whose settings were checked and whose data is converted. Nothing of it has been written yet.

    Attributes:
        config: its settings, those of an earlier start where it is continued.
        run: its directory; for a run at a URI, the local one.
        init_report: what `init_from` contributes; None without it.
        remote: its place at a URI; None for a run on disk.
        workers: how many workers it would be trained with here.
        is_main: whether this process reports; False in torchrun's processes after the first.
    """

    config: Config
    run: RunDir
    init_report: InitReport | None
    remote: RemoteRun | None
    workers: int
    is_main: bool


def prepare_run(config: Config) -> PreparedRun:
    """Check that `config` can run here, and prepare its data. Pulls the latest state of a run at a URI.

    Raises:
        ConfigError: it cannot run here, or the data cannot be used.
    """
    config = replace(config, data=infer_from_root(config.data))
    init_report = initialise.check_init_from(config)
    workers, is_main = driver.check(config), driver.is_main_process()
    run = resolve_run(config, init_report, workers)
    if is_main:
        remote = pull_remote_run(config, run)
        return PreparedRun(continued(config, run), run, init_report, remote, workers, is_main)
    remote = remote_run_of(config, run.path)
    if remote is not None:
        remote.pull()
    return PreparedRun(run.continued(config), run, init_report, remote, workers, is_main)


def execute(prepared: PreparedRun) -> None:
    """Train a run to its end and write its report; a finished run only gets its report again.

    Raises:
        ConfigError: the directory holds another run, or an error of the user that only shows now.
        LaunchFailed: the run failed; the same settings resume it.
        RunStopped: SIGTERM or SIGUSR2 stopped the run, which has saved a checkpoint.
    """
    config, run = prepared.config, prepared.run
    if not prepared.is_main:
        # Of a finished run, rank 0 only shows the table and does not join a rendezvous.
        if config.fresh or not run.finished:
            driver.launch(config, Path(), attempt=0)
    elif run.finished:
        run.check(config)
        _warn_world_size(run.path, prepared.workers)
        with suppress(OSError):  # the run may belong to another user
            write_report(run.path, page=True)
    else:
        _train(prepared)


def run_and_print(prepared: PreparedRun) -> int:
    """Execute a run and print its table, or one line that says why it ended; returns the exit status."""
    run, finished = prepared.run, prepared.run.finished
    try:
        execute(prepared)
    except LaunchFailed as error:
        _print_end(prepared, f"failed: {error}\nthe same command resumes {run.path}")
        return 1
    except RunStopped as stop:
        with suppress(OSError):  # stderr may be closed by now; the status still counts
            _print_end(prepared, f"stopped: {stop}; the same command resumes {run.path}")
        return stop.status
    if prepared.is_main:
        print(
            *(["already finished; fresh=true starts a new run"] if finished else []),
            printable(summarise(run.path)),
            sep="\n",
        )
        if prepared.remote is not None and not finished:
            print(f"remote   {prepared.remote.uri}")
    return 0


def _print_end(prepared: PreparedRun, line: str) -> None:
    if prepared.is_main:
        print(line, file=sys.stderr)


def _train(prepared: PreparedRun) -> None:
    """Lock the run directory, train to the end and write the report."""
    config, run, report = prepared.config, prepared.run, prepared.init_report
    ended: LaunchFailed | RunStopped | None = None
    with started_run(config, run, prepared.remote) as attempt:
        if report is not None and latest(run.checkpoints) is None:
            _log.info(report.summary)
        _log.info(f"run      {run.path}")
        _log.info(f"recipe   {config.recipe}: {threat_model(config)}")
        try:
            driver.launch(config, run.path, attempt)
            write_report(run.path, page=True)
        except (LaunchFailed, RunStopped) as error:
            # Recorded with its reason here; raised within the block, its name alone would be recorded.
            run.record_end(str(error), failed=isinstance(error, LaunchFailed))
            ended = error
    if ended is not None:
        raise ended


def continued(config: Config, run: RunDir) -> Config:
    """`RunDir.continued`, with a line where the run keeps to another attack than this command's."""
    found = run.continued(config)
    if found != config and not run.finished:
        own, here = found.eval.attack_name, config.eval.attack_name
        _log.info(f"eval.attack_name={own}, not {here}: the run was begun by an earlier version, which counted so")
    return found


def _warn_world_size(run_path: Path, workers: int) -> None:
    """Warn if a finished run was trained with another number of workers, which the run ID does not cover."""
    trained = history.world_sizes(run_path)
    if trained and trained != (workers,):
        sizes = ", then ".join(map(str, trained))
        _log.warning(
            f"trained with {sizes} worker{'' if trained == (1,) else 's'}, this command would use {workers}: BN "
            "statistics are per worker, so results may differ; fresh=true trains anew"
        )


def resolve_run(config: Config, init_report: InitReport | None, workers: int = 1) -> RunDir:
    """The run directory of a config for so many workers. Prepares the data, whose fingerprint is part of the run ID.

    Raises:
        ConfigError: the data cannot be used, or the settings do not fit the data.
    """
    data = prepare_data(config.data)
    run = run_dir_for(config, data.fingerprint if init_report is None else f"{data.fingerprint}+{init_report.digest}")
    if not run.finished:
        check_trainable(config, data.sizes["train"], workers)
    return run


if __name__ == "__main__":
    run_cli(lambda: main(sys.argv[1:]))
