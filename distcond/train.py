"""Train a conditional network: `python -m distcond.train [RECIPE] [PATH=VALUE ...]`; `--help` says more."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from distcond.config.command_line import describe, guarded, parse
from distcond.config.schema import Config
from distcond.data.open import prepare
from distcond.engine.run_dir import RunDir, run_dir_for
from distcond.launch import driver
from distcond.launch.failure import LaunchFailed
from distcond.registry import lookup
from distcond.results.report import summarise, write_report


def main(argv: Sequence[str]) -> int:
    """Refuse what cannot run, prepare the data, train (or resume), print the trade-off table; the exit status."""
    command = parse(argv)
    config = command.config
    if command.show:
        print(describe(config))
        return 0
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    driver.check(config)
    if not driver.leads():
        return follow(config)
    return lead(config)


def lead(config: Config) -> int:
    """Train and report; a finished run is only shown."""
    run = run_of(config)
    if run.finished:
        write_report(run.path)
        print(f"already finished, nothing to do; fresh=true starts another\n{summarise(run.path)}")
        return 0
    with run.begin(config) as attempt:
        try:
            driver.launch(config, run.path, attempt)
        except LaunchFailed as error:
            print(f"failed: {error}\nthe same command resumes {run.path}", file=sys.stderr)
            return 1
        write_report(run.path)
    print(summarise(run.path))
    return 0


def run_of(config: Config) -> RunDir:
    """Where the config's run lies; its data are prepared for that."""
    data = config.data
    prepared = prepare(lookup("data", data.name), data.root, data.cache_dir, data.loader)
    return run_dir_for(config, prepared.fingerprint)


def follow(config: Config) -> int:
    """One of torchrun's processes after the first, which hears from it where the run lies."""
    if not config.fresh and run_of(config).finished:
        return 0  # the first process only shows it, and would be waited for
    try:
        driver.launch(config, Path(), attempt=0)
    except LaunchFailed:
        return 1
    return 0


if __name__ == "__main__":
    guarded(lambda: main(sys.argv[1:]))
