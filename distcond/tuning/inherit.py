"""An exploit on disk: the loser's next run begins at the donor's checkpoint, with the loser's new settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from distcond.config.schema import Config
from distcond.training.continue_from import continue_from
from distcond.tuning.pbt import Exploit
from distcond.tuning.trial import Trial


def inherited(trials: Mapping[int, Trial], exploit: Exploit, config: Config, sweep: Path) -> Trial:
    """The loser as it is after the exploit; made again after a kill, it is the same."""
    loser, donor = trials[exploit.loser], trials[exploit.donor]
    run = continue_from(config, sweep / donor.run, donor.epochs, f"{loser.number}")
    past = {
        "epoch": donor.epochs,
        "trial": donor.number,
        "run": donor.run,
        "inherited": donor_flops(donor),
        "drawn": dict(loser.drawn),
        "flops": loser.flops,
        "seconds": loser.seconds,
        "own_run": loser.run,
    }
    home, lineage = str(run.path.relative_to(sweep)), (*loser.lineage, past)
    return replace(loser, drawn=exploit.drawn, run=home, lineage=lineage, epochs=donor.epochs)


def donor_flops(donor: Trial) -> float:
    """Training FLOPs that the donor's checkpoint has on its count: its own, and those it inherited itself."""
    fork = donor.lineage[-1] if donor.lineage else {"inherited": 0.0, "flops": 0.0}
    return float(donor.flops - fork["flops"] + fork["inherited"])
