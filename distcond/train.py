"""Train a conditional network: `python -m distcond.train [RECIPE] [PATH=VALUE ...]`; `--help` says more."""

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
    """Refuse what cannot run, prepare the data, train (or resume), print the trade-off table; the exit status."""
    command = parse(argv)
    config = command.config
    if command.show:
        print(describe(config))
        return 0
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    if command.why:
        logging.info(command.why)
    config = replace(config, data=infer_from_root(config.data))
    origin = initialise.check_init_from(config)
    workers = driver.check(config)
    try:
        return (
            run_main_process(config, origin, workers) if driver.is_main_process() else run_other_process(config, origin)
        )
    except TransientError as error:
        print(f"failed: {error}\nthe same command tries again", file=sys.stderr)
        return 1


def run_main_process(config: Config, origin: InitReport | None, workers: int) -> int:
    """Train and report; a finished run is only shown. `workers` is how many the command would train with."""
    run = resolve_run(config, origin)
    home = pull(config, run)
    if run.finished:
        run.check(config)
        _warn_world_size(run.path, workers)
        with suppress(OSError):  # somebody else's run
            write_report(run.path, page=True)
        print(f"already finished, nothing to do; fresh=true starts another\n{summarise(run.path)}")
        return 0
    return train_run(config, run, origin, home)


def train_run(config: Config, run: RunDir, origin: InitReport | None, home: RemoteRun | None) -> int:
    """Take the run's directory, train to the end and report."""
    with started_run(config, run, home) as attempt:
        if origin is not None and latest(run.checkpoints) is None:
            logging.info(origin.summary)
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
            with suppress(OSError):  # whoever read it may have been stopped, too; the status must still be told
                print(f"stopped: {stop}; the same command resumes {run.path}", file=sys.stderr)
            return stop.status
        write_report(run.path, page=True)
    print(summarise(run.path))
    if home is not None:
        print(f"home     {home.uri}")
    return 0


def _warn_world_size(run_path: Path, workers: int) -> None:
    """Where a run happens is no part of its name, but BN statistics per worker make it another network."""
    trained = history.world_sizes(run_path)
    if trained and trained != (workers,):
        sizes = ", then ".join(map(str, trained))
        logging.warning(
            f"trained with {sizes} worker{'' if trained == (1,) else 's'}, this command would take {workers}: BN "
            "statistics per worker saw other shares of a batch, so its results may differ; fresh=true trains anew"
        )


@contextmanager
def started_run(config: Config, run: RunDir, home: RemoteRun | None) -> Iterator[int]:
    """`run.begin`, told at the run's home; what the start leaves behind is sent there. A refused one leaves nothing."""
    entered = False
    try:
        with run.begin(config) as attempt:
            entered = True
            if home is not None:
                home.publish_start()
            yield attempt
    finally:
        if entered and home is not None:
            home.push_final()


def pull(config: Config, run: RunDir) -> RemoteRun | None:
    """Where the run lives at a URI, see that this can be written, and fetch the newest state from there."""
    home = remote_run_of(config, run.path)
    if home is not None:
        open_store(config.run_root).check()
        home.pull()
    return home


def resolve_run(config: Config, origin: InitReport | None) -> RunDir:
    """Where the config's run lies; its data are prepared for that. `origin` is what its weights start from.

    Raises:
        ConfigError: the data cannot be used, or the settings do not fit them.
    """
    found = prepare_data(config.data)
    run = run_dir_for(config, found.fingerprint if origin is None else f"{found.fingerprint}+{origin.digest}")
    if not run.finished:
        check_trainable(config, found.sizes["train"])
    return run


def run_other_process(config: Config, origin: InitReport | None) -> int:
    """One of torchrun's processes after the first, which hears from it where the run lies."""
    run = resolve_run(config, origin)
    home = remote_run_of(config, run.path)
    if home is not None:
        home.pull()
    if not config.fresh and run.finished:
        return 0  # the first process only shows it, and would be waited for
    try:
        driver.launch(config, Path(), attempt=0)
    except LaunchFailed:
        return 1
    except RunStopped as stop:
        return stop.status
    return 0


if __name__ == "__main__":
    run_cli(lambda: main(sys.argv[1:]))
