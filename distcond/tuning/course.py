"""The course of a sweep: which leg of which trial comes next, and what its end means.

It decides by what stands in the sweep's files alone, so a sweep that was killed goes on as if it had not been.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from distcond.config.schema import Config
from distcond.errors import ConfigError
from distcond.tuning.asha import Asha
from distcond.tuning.merged import merged
from distcond.tuning.pbt import Exploit, Rounds
from distcond.tuning.proposers import Proposer
from distcond.tuning.space import Space
from distcond.tuning.sweep_dir import SweepDir
from distcond.tuning.trial import Leg, Outcome, Trial

_log = logging.getLogger(__name__)

Schedule = Asha | Rounds | None


class Course:
    """Hands out legs and takes their outcomes.

    Args:
        sweep: its directory.
        space: what varies.
        proposer: what is tried.
        count: how many trials, or fewer where the proposer knows no more.
        retries: times a trial whose process died is taken up again.
        schedule: None, ASHA, or the rounds of PBT.
        placed: the run directory of a config; raises ConfigError where it cannot run.
        inherit: makes the run directory of an exploit, given the trials and what is to happen; gives the loser then.
    """

    def __init__(
        self,
        sweep: SweepDir,
        space: Space,
        proposer: Proposer,
        count: int,
        retries: int,
        schedule: Schedule,
        placed: Callable[[Config], Path],
        inherit: Callable[[dict[int, Trial], Exploit], Trial],
    ) -> None:
        self.sweep, self.space, self.proposer, self.placed, self.inherit = sweep, space, proposer, placed, inherit
        self.count, self.retries, self.schedule = count, retries, schedule
        self.halted = False
        self.trials = sweep.trials()
        for trial in self.trials.values():
            self.proposer.again(trial.number, trial.memory)
            if trial.state == "running":  # by a process that is gone
                self._keep(replace(trial, state="waiting"))
            elif trial.state != "waiting":
                self._tell(trial)

    @property
    def running(self) -> bool:
        """Whether a leg is under way."""
        return any(trial.state == "running" for trial in self.trials.values())

    def next(self) -> Leg | None:
        """The next leg, which is taken to begin. None: wait for one that runs; or, if none runs, the sweep is over."""
        leg = None
        while leg is None:
            if self.halted:
                return None
            if self._round():  # first: a killed process may have left it half done
                continue
            leg = self._waiting() or self._promoted()
            if leg is None and len(self.trials) >= self.count:
                return None
            leg = leg or self._proposed()
        self._keep(replace(self.trials[leg.number], state="running", until=leg.until))
        return leg

    def halt(self) -> None:
        """Begin no more legs: those that run may end before their time, and wait then for the sweep to go on."""
        self.halted = True

    def config(self, number: int) -> Config:
        """What a trial's run is told."""
        return self.space.config({**self.trials[number].drawn, **self.sweep.fixed(), **self.sweep.attack()})

    def ended(self, leg: Leg, outcome: Outcome) -> None:
        """A leg came to its end, well or with an error of its own."""
        trial = merged(self.trials[leg.number], outcome)
        if outcome.again:
            self._keep(trial)
            self.died(leg, outcome.error)
            return
        if outcome.error:
            trial = replace(trial, state="failed", error=outcome.error)
        elif self.halted and not outcome.finished and not 0 < leg.until <= outcome.epochs:
            self._keep(replace(trial, state="waiting"))
            return
        elif not trial.values:
            trial = replace(trial, state="failed", error="no objective: its run validated nothing; see eval.every")
        else:
            trial = replace(trial, state="finished" if outcome.finished else "stopped")
        self._keep(trial)
        self._tell(trial)

    def died(self, leg: Leg, line: str) -> None:
        """A leg did not come to its end, by no fault of its trial's. It is taken up again, so many times."""
        trial = self.trials[leg.number]
        if trial.tries < self.retries:
            self._keep(replace(trial, state="waiting", tries=trial.tries + 1))
            return
        self._keep(replace(trial, state="failed", error=f"{line} (tried {trial.tries + 1} times)"))
        self._tell(self.trials[leg.number])

    def _waiting(self) -> Leg | None:
        for trial in self.trials.values():
            if trial.state == "waiting":
                return Leg(trial.number, trial.until)
        return None

    def _promoted(self) -> Leg | None:
        if not isinstance(self.schedule, Asha):
            return None
        new = len(self.trials) < self.count
        return self.schedule.promote(self.trials, idle=not new and not self.running)

    def _proposed(self) -> Leg | None:
        """The first leg of a new trial; None where it fails at once or there are no more."""
        number, until = len(self.trials), self.schedule.first if self.schedule else 0
        known = {other.run for other in self.trials.values()}
        try:
            for again in itertools.count():
                trial = Trial(number, {}, until=until)
                drawn = self.proposer.propose(number, again)
                if drawn is None:
                    _log.info(f"{self.space.name}: nothing new is left; {number} trials in place of {self.count}")
                    self.count = number
                    return None
                trial = replace(trial, drawn=drawn, memory=self.proposer.memory(number))
                run = self.placed(self.space.config({**drawn, **self.sweep.fixed()}))
                trial = replace(trial, run=str(run.relative_to(self.sweep.path)))
                if trial.run not in known:
                    break
        except ConfigError as error:
            self._keep(replace(trial, state="failed", run="", error=str(error)))
            self._tell(self.trials[number])
            return None
        self._keep(trial)
        return Leg(number, trial.until)

    def _round(self) -> bool:
        """With PBT, what happens between rounds once everybody is there; whether it did."""
        if not isinstance(self.schedule, Rounds) or self.running or len(self.trials) < self.count:
            return False
        found = self.schedule.between(self.trials)
        if found is None:
            return False
        for exploit in found.exploits:
            self._keep(replace(self._heir(exploit), state="waiting", until=found.until))
        # Only now: what is copied must stand still until it is.
        for number in found.others:
            self._keep(replace(self.trials[number], state="waiting", until=found.until))
        return True

    def _heir(self, exploit: Exploit) -> Trial:
        """The loser after an exploit; where its changed settings do not fit each other, with the donor's."""
        try:
            return self.inherit(self.trials, exploit)
        except ConfigError:
            return self.inherit(self.trials, exploit._replace(drawn=dict(self.trials[exploit.donor].drawn)))

    def _keep(self, trial: Trial) -> None:
        self.sweep.write(trial)
        self.trials[trial.number] = trial

    def _tell(self, trial: Trial) -> None:
        values: tuple[Any, ...] = () if trial.state == "failed" else trial.values
        self.proposer.tell(trial.number, values, trial.epochs, trial.state == "finished")
