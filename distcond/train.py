"""Train a conditional network: `python -m distcond.train [RECIPE] [PATH=VALUE ...]`; see `--help`."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
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
from distcond.runs.failures import LaunchFailed
from distcond.runs.remote import RemoteRun, remote_run_of
from distcond.runs.run_dir import RunDir, run_dir_for
from distcond.storage.uri import open_store
from distcond.training.build_trainer import check_trainable


def main(argv: Sequence[str]) -> int:
    """Check the settings, prepare the data, train or resume, print the trade-off table; returns the exit status."""
    command = parse(argv)
    config = command.config
    if command.show:
        print(describe(config))
        return 0
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    if command.why:
        logging.info(command.why)
    config = replace(config, data=infer_from_root(config.data))
    init_report = initialise.check_init_from(config)
    workers = driver.check(config)
    try:
        if driver.is_main_process():
            return run_main_process(config, init_report, workers)
        return run_other_process(config, init_report)
    except TransientError as error:
        print(f"failed: {error}\nrun the same command again", file=sys.stderr)
        return 1


def run_main_process(config: Config, init_report: InitReport | None, workers: int) -> int:
    """Train and report, or show a finished run.

    Args:
        config: the run.
        init_report: what `init_from` contributes; None without it.
        workers: how many workers this command would train with.

    Returns:
        The exit status.
    """
    run = resolve_run(config, init_report)
    remote = pull_remote_run(config, run)
    config = continued(config, run)
    if run.finished:
        run.check(config)
        _warn_world_size(run.path, workers)
        with suppress(OSError):  # the run may belong to another user
            write_report(run.path, page=True)
        print(f"already finished; fresh=true starts a new run\n{summarise(run.path)}")
        return 0
    return train_run(config, run, init_report, remote)


def train_run(config: Config, run: RunDir, init_report: InitReport | None, remote: RemoteRun | None) -> int:
    """Lock the run directory, train to the end and report; returns the exit status."""
    with started_run(config, run, remote) as attempt:
        if init_report is not None and latest(run.checkpoints) is None:
            logging.info(init_report.summary)
        logging.info(f"run      {run.path}")
        logging.info(f"recipe   {config.recipe}: {threat_model(config)}")
        try:
            driver.launch(config, run.path, attempt)
        except LaunchFailed as error:
            run.record_end(str(error), failed=True)
            print(f"failed: {error}\nthe same command resumes {run.path}", file=sys.stderr)
            return 1
        except RunStopped as stop:
            run.record_end(str(stop), failed=False)
            with suppress(OSError):  # stderr may be closed by now; the status still counts
                print(f"stopped: {stop}; the same command resumes {run.path}", file=sys.stderr)
            return stop.status
        write_report(run.path, page=True)
    print(summarise(run.path))
    if remote is not None:
        print(f"remote   {remote.uri}")
    return 0


def continued(config: Config, run: RunDir) -> Config:
    """`RunDir.continued`, with a line where the run keeps to another attack than this command's."""
    found = run.continued(config)
    if found != config and not run.finished:
        own, here = found.eval.attack_name, config.eval.attack_name
        logging.info(f"eval.attack_name={own}, not {here}: the run was begun by an earlier version, which counted so")
    return found


def _warn_world_size(run_path: Path, workers: int) -> None:
    """Warn if a finished run was trained with another number of workers, which the run ID does not cover."""
    trained = history.world_sizes(run_path)
    if trained and trained != (workers,):
        sizes = ", then ".join(map(str, trained))
        logging.warning(
            f"trained with {sizes} worker{'' if trained == (1,) else 's'}, this command would use {workers}: BN "
            "statistics are per worker, so results may differ; fresh=true trains anew"
        )


@contextmanager
def started_run(config: Config, run: RunDir, remote: RemoteRun | None) -> Iterator[int]:
    """`run.begin`, published at the run's URI before the block; the final files are uploaded after it."""
    begun = False
    try:
        with run.begin(config) as attempt:
            begun = True
            if remote is not None:
                remote.publish_start()
            yield attempt
    finally:
        if begun and remote is not None:  # a refused start uploads nothing
            remote.push_final()


def pull_remote_run(config: Config, run: RunDir) -> RemoteRun | None:
    """For a run at a URI, check that it can be written, and pull its latest state."""
    remote = remote_run_of(config, run.path)
    if remote is not None:
        open_store(config.run_root).check()
        remote.pull()
    return remote


def resolve_run(config: Config, init_report: InitReport | None) -> RunDir:
    """The run directory of a config. Prepares the data, whose fingerprint is part of the run ID.

    Raises:
        ConfigError: the data cannot be used, or the settings do not fit the data.
    """
    data = prepare_data(config.data)
    run = run_dir_for(config, data.fingerprint if init_report is None else f"{data.fingerprint}+{init_report.digest}")
    if not run.finished:
        check_trainable(config, data.sizes["train"])
    return run


def run_other_process(config: Config, init_report: InitReport | None) -> int:
    """Run a torchrun process of rank > 0, which gets the run directory from rank 0; returns the exit status."""
    run = resolve_run(config, init_report)
    remote = remote_run_of(config, run.path)
    if remote is not None:
        remote.pull()
    if not config.fresh and run.finished:
        return 0  # rank 0 only shows the run and does not join a rendezvous
    try:
        driver.launch(run.continued(config), Path(), attempt=0)
    except LaunchFailed:
        return 1
    except RunStopped as stop:
        return stop.status
    return 0


if __name__ == "__main__":
    run_cli(lambda: main(sys.argv[1:]))
