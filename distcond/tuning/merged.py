"""What a trial is after a leg: its own past and what the leg's run says of itself."""

from __future__ import annotations

from dataclasses import replace

from distcond.tuning.trial import Outcome, Trial


def merged(trial: Trial, outcome: Outcome) -> Trial:
    """`trial` with an outcome, which covers the whole history of its present run.

    After an exploit the present run began at another trial's checkpoint: what came before stays, and the donor's FLOPs
    are not this trial's.
    """
    fork = trial.lineage[-1] if trial.lineage else {"epoch": 0, "flops": 0.0, "seconds": 0.0, "inherited": 0.0}
    past = tuple(point for point in trial.curve if point[0] <= fork["epoch"])
    own = tuple(tuple(point) for point in outcome.curve if point[0] > fork["epoch"])
    curve = past + own
    flops = fork["flops"] + max(0.0, outcome.flops - fork["inherited"])
    return replace(
        trial,
        curve=curve,
        values=tuple(curve[-1][1:]) if curve else (),
        epochs=max(outcome.epochs, int(fork["epoch"])),
        flops=flops if outcome.epochs else trial.flops,
        seconds=fork["seconds"] + outcome.seconds,
    )
