"""Fault injection: disturb a small run at random moments, and check that it ends like an undisturbed one.

    python tests/faults/campaign.py --kills 50 --seed 0 --write docs/reports/faults.md

Each case takes a kind of fault, a launcher and a loader, starts the run (two workers), injects the fault at a random
moment, and repeats the command until the run is finished. Then the last checkpoint must equal that of an undisturbed
run bit for bit, every result row and every epoch must exist once, no start may have exceeded its time limit, and no
process of the run may be left. Outcomes are stored as one JSON line per case, so a stopped campaign resumes.
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
from support.faults.fault_bench import FaultBench, FaultCase
from support.faults.faults_table import table
from support.faults.kinds import KINDS


def main() -> None:
    """Run the missing cases, then print (and write) the table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--kills", type=int, default=50)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--kinds", default=",".join(KINDS), help="comma-separated")
    arguments.add_argument("--launchers", default="local,ray")
    arguments.add_argument("--share", default="1/1", help="2/3: every third case from the second on")
    arguments.add_argument("--bound", type=float, default=victim.BOUND, help="time limit of a start in seconds")
    arguments.add_argument("--record", default="faults.jsonl", help="file of the outcomes")
    arguments.add_argument("--write", help="a Markdown file to write the table to")
    found = arguments.parse_args()
    victim.BOUND = found.bound
    record = Path(found.record).absolute()
    done = {one["case"]: one for one in map(json.loads, record.read_text().splitlines() if record.exists() else [])}
    own, of = (int(part) for part in found.share.split("/"))
    with tempfile.TemporaryDirectory(prefix="dcf-", dir="/tmp") as folder:
        bench = FaultBench(Path(folder))
        for number, case in enumerate(cases(found.kinds.split(","), found.launchers.split(","), found.kills)):
            if number in done or number % of != own - 1:
                continue
            done[number] = {"case": number, **bench.run_case(case, random.Random(f"{found.seed}-{number}"))}
            with open(record, "a") as file:
                file.write(json.dumps(done[number]) + "\n")
            print(json.dumps(done[number]), flush=True)
    text = table([done[number] for number in sorted(done)], " ".join(["python", *sys.argv]), time.strftime("%Y-%m-%d"))
    print(text)
    if found.write:
        Path(found.write).write_text(text)


def cases(kinds: list[str], launchers: list[str], kills: int) -> Iterator[FaultCase]:
    """Cycle through every kind under each of its launchers, with alternating loaders."""
    loaders = ["memory"] if ffcv_problem() else ["memory", "ffcv"]
    pairs = [(kind, launcher) for kind in kinds for launcher in KINDS[kind].launchers if launcher in launchers]
    for number in range(kills):
        kind, launcher = pairs[number % len(pairs)]
        yield FaultCase(kind, launcher, loaders[(number // len(pairs) + number) % len(loaders)])


if __name__ == "__main__":
    main()
