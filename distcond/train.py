"""Train a conditional network: `python -m distcond.train [RECIPE] [PATH=VALUE ...]`; `--help` says more."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from distcond.config.command_line import describe, guarded, parse
from distcond.config.schema import Config
from distcond.data.described import prepared, settled
from distcond.engine.checkpoint import newest
from distcond.engine.home import Home, home_of
from distcond.engine.job import check_job
from distcond.engine.run_dir import RunDir, run_dir_for
from distcond.engine.starting import init_from
from distcond.engine.starting.report import Report
from distcond.errors import NotNow
from distcond.launch import driver
from distcond.launch.failure import LaunchFailed, Stopped
from distcond.results import history
from distcond.results.label import threat_model
from distcond.results.report import summarise, write_report
from distcond.storage.uri import open_store


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
    config = replace(config, data=settled(config.data))
    origin = init_from.check(config)
    workers = driver.check(config)
    try:
        return lead(config, origin, workers) if driver.leads() else follow(config, origin)
    except NotNow as error:
        print(f"failed: {error}\nthe same command tries again", file=sys.stderr)
        return 1


def lead(config: Config, origin: Report | None, workers: int) -> int:
    """Train and report; a finished run is only shown. `workers` is how many the command would train with."""
    run = run_of(config, origin)
    home = arrive(config, run)
    if run.finished:
        run.check(config)
        _tell_world_size(run.path, workers)
        with suppress(OSError):  # somebody else's run
            write_report(run.path, page=True)
        print(f"already finished, nothing to do; fresh=true starts another\n{summarise(run.path)}")
        return 0
    return go_on(config, run, origin, home)


def go_on(config: Config, run: RunDir, origin: Report | None, home: Home | None) -> int:
    """Take the run's directory, train to the end and report."""
    with begun(config, run, home) as attempt:
        if origin is not None and newest(run.checkpoints) is None:
            logging.info(origin.summary)
        logging.info(f"run      {run.path}")
        logging.info(f"recipe   {config.recipe}: {threat_model(config)}")
        try:
            driver.launch(config, run.path, attempt)
        except LaunchFailed as error:
            run.ended(str(error), failed=True)
            print(f"failed: {error}\nthe same command resumes {run.path}", file=sys.stderr)
            return 1
        except Stopped as stop:
            run.ended(str(stop), failed=False)
            with suppress(OSError):  # whoever read it may have been stopped, too; the status must still be told
                print(f"stopped: {stop}; the same command resumes {run.path}", file=sys.stderr)
            return stop.status
        write_report(run.path, page=True)
    print(summarise(run.path))
    if home is not None:
        print(f"home     {home.uri}")
    return 0


def _tell_world_size(run_path: Path, workers: int) -> None:
    """Where a run happens is no part of its name, but BN statistics per worker make it another network."""
    trained = history.world_sizes(run_path)
    if trained and trained != (workers,):
        sizes = ", then ".join(map(str, trained))
        logging.warning(
            f"trained with {sizes} worker{'' if trained == (1,) else 's'}, this command would take {workers}: BN "
            "statistics per worker saw other shares of a batch, so its results may differ; fresh=true trains anew"
        )


@contextmanager
def begun(config: Config, run: RunDir, home: Home | None) -> Iterator[int]:
    """`run.begin`, told at the run's home; what the start leaves behind is sent there. A refused one leaves nothing."""
    entered = False
    try:
        with run.begin(config) as attempt:
            entered = True
            if home is not None:
                home.announce()
            yield attempt
    finally:
        if entered and home is not None:
            home.leave()


def arrive(config: Config, run: RunDir) -> Home | None:
    """Where the run lives at a URI, see that this can be written, and fetch the newest state from there."""
    home = home_of(config, run.path)
    if home is not None:
        open_store(config.run_root).check()
        home.arrive()
    return home


def run_of(config: Config, origin: Report | None) -> RunDir:
    """Where the config's run lies; its data are prepared for that. `origin` is what its weights start from.

    Raises:
        ConfigError: the data cannot be used, or the settings do not fit them.
    """
    found = prepared(config.data)
    run = run_dir_for(config, found.fingerprint if origin is None else f"{found.fingerprint}+{origin.digest}")
    if not run.finished:
        check_job(config, found.sizes["train"])
    return run


def follow(config: Config, origin: Report | None) -> int:
    """One of torchrun's processes after the first, which hears from it where the run lies."""
    run = run_of(config, origin)
    home = home_of(config, run.path)
    if home is not None:
        home.arrive()
    if not config.fresh and run.finished:
        return 0  # the first process only shows it, and would be waited for
    try:
        driver.launch(config, Path(), attempt=0)
    except LaunchFailed:
        return 1
    except Stopped as stop:
        return stop.status
    return 0


if __name__ == "__main__":
    guarded(lambda: main(sys.argv[1:]))
