"""Pull the plug on a small run, again and again, and look whether it comes to the end it would have come to.

    python tests/faults/campaign.py --kills 50 --seed 0 --write docs/reports/faults.md

Each turn takes a kind of fault, a launcher and a loader, starts the run (two workers), lets the fault happen at a
random moment, and gives the same command again until the run is finished. Then: the last checkpoint is bit for bit that
of a run nothing happened to, every result row and every epoch is there once, no start took longer than its bound, and
nothing of the run is left running. What happened is kept as one JSON line a turn, so that a stopped campaign goes on.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from distcond.data.ffcv.source import ffcv_problem
from support.faults import victim
from support.faults.faults_table import table
from support.faults.kinds import KINDS
from support.faults.turn import Bench, Turn


def main() -> None:
    """Do the turns that are not done yet, then print (and write) the table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--kills", type=int, default=50)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--kinds", default=",".join(KINDS), help="comma-separated")
    arguments.add_argument("--launchers", default="local,ray")
    arguments.add_argument("--share", default="1/1", help="2/3: every third turn from the second on; the others beside")
    arguments.add_argument("--bound", type=float, default=victim.BOUND, help="seconds a start may take; more if busy")
    arguments.add_argument("--record", default="faults.jsonl", help="where the outcomes are kept")
    arguments.add_argument("--write", help="a Markdown file to write the table to")
    found = arguments.parse_args()
    victim.BOUND = found.bound
    record = Path(found.record).absolute()
    done = {one["turn"]: one for one in map(json.loads, record.read_text().splitlines() if record.exists() else [])}
    own, of = (int(word) for word in found.share.split("/"))
    with tempfile.TemporaryDirectory(prefix="dcf-", dir="/tmp") as folder:
        bench = Bench(Path(folder))
        for number, turn in enumerate(turns(found.kinds.split(","), found.launchers.split(","), found.kills)):
            if number in done or number % of != own - 1:
                continue
            done[number] = {"turn": number, **bench.outcome(turn, random.Random(f"{found.seed}-{number}"))}
            with open(record, "a") as file:
                file.write(json.dumps(done[number]) + "\n")
            print(json.dumps(done[number]), flush=True)
    text = table([done[number] for number in sorted(done)], " ".join(["python", *sys.argv]), time.strftime("%Y-%m-%d"))
    print(text)
    if found.write:
        Path(found.write).write_text(text)


def turns(kinds: list[str], launchers: list[str], kills: int) -> Iterator[Turn]:
    """Every kind under every launcher it can happen under, loaders in turn, until there are enough."""
    loaders = ["memory"] if ffcv_problem() else ["memory", "ffcv"]
    pairs = [(kind, launcher) for kind in kinds for launcher in KINDS[kind].launchers if launcher in launchers]
    for number in range(kills):
        kind, launcher = pairs[number % len(pairs)]
        yield Turn(kind, launcher, loaders[(number // len(pairs) + number) % len(loaders)])


if __name__ == "__main__":
    main()
