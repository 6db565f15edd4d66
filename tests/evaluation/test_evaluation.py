"""An evaluation counts every example once, pays for nothing twice, and its rows mean what they say."""

from __future__ import annotations

import shutil
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from distcond.evaluation.plan import EvalPlan
from distcond.evaluation.rows import keep_rows, tally
from distcond.models.conditional import AtLambda
from distcond.results.store import read_rows
from distcond.runs.load_run import load

CPU = torch.device("cpu")


def forward_rows(plan: EvalPlan) -> int:
    return sum(tally(plan, measure).forward_rows for measure in dict.fromkeys(plan.cells()))


def test_rows_say_what_was_counted(plan: Any, carried_out: Any) -> None:
    made = plan("attack=pgd,fgsm", "eval.attack.num_steps=3")
    carried_out(made)
    rows = keep_rows(made, 1, CPU)
    assert {(r.attack, r.lam) for r in rows} == {(a, lam) for a in ("none", "pgd", "fgsm") for lam in (0.0, 1.0)}
    assert {(r.num_examples, r.block_size, r.precision, r.threat, r.noise_mode) for r in rows} == {
        (40, 16, "float32", "adaptive", "fixed")
    }
    by = {(r.attack, r.lam): r for r in rows}
    assert by["pgd", 1.0].num_steps == 3
    assert by["fgsm", 1.0].num_correct >= by["pgd", 1.0].num_correct
    assert 0 < by["pgd", 1.0].num_correct < by["none", 1.0].num_correct < 40
    kept = [r for r in read_rows(made.run_path) if r.block_size == 16]
    assert sorted(map(repr, kept)) == sorted(map(repr, rows))


def test_clean_counts_are_those_of_the_network_itself(plan: Any, carried_out: Any, correct: Any) -> None:
    made = plan("attack=none")
    counter = carried_out(made)
    members = np.concatenate([made.members(block) for block in range(made.blocks)])
    ((raw, y),) = counter.source.read([members])
    network = AtLambda(load(made.run_path), 1.0, noise_seed=0)
    right = network(raw.permute(0, 3, 1, 2).float() / 255).argmax(1) == y
    assert np.array_equal(correct(made)["none", 1.0, "fixed", 1.0], right.numpy())


def test_cost_grows_at_most_linearly_in_lams(plan: Any, carried_out: Any, correct: Any) -> None:
    steps = "eval.attack.num_steps=6"
    one, three = plan("attack=pgd", "eval.lam_grid=1", steps), plan("attack=pgd", "eval.lam_grid=1,0.5,0.2", steps)
    carried_out(one)
    cheap = forward_rows(one)
    survivors = int(correct(one)["none", 1.0, "fixed", 1.0].sum())
    # Clean once; of what is right six steps and the answer that counts, fewer steps where the first ones broke it.
    robust = int(correct(one)["pgd", 1.0, "fixed", 1.0].sum())
    assert 40 + survivors + 6 * robust < cheap < 40 + survivors * (6 + 1)
    shutil.rmtree(one.run_path / "outcomes")
    carried_out(three)
    counts, dear = correct(three), forward_rows(three)
    rights = sum(int(counts["none", lam, "fixed", lam].sum()) for lam in (1.0, 0.5, 0.2))
    assert 3 * 40 < dear < 3 * 40 + rights * 7


@pytest.mark.parametrize("words", [("attack=pgd",), ("attack=pgd", "threat=transfer", "attack_lam=0")])
def test_grid_flops_equal_sum_of_points(plan: Any, carried_out: Any, words: tuple[str, ...]) -> None:
    def flops(lam_grid: str) -> int:
        made = plan(*words, f"eval.lam_grid={lam_grid}", "eval.test_examples=16")
        shutil.rmtree(made.run_path / "outcomes", ignore_errors=True)
        with FlopCounterMode(display=False) as counter:
            carried_out(made)
        return counter.get_total_flops()

    alone, together = [flops(lam) for lam in ("1", "0.5", "0.2")], flops("1,0.5,0.2")
    if "threat=transfer" in words:
        # What is optimised once, at lam 0, is shown to all three.
        assert max(alone) < together < sum(alone) / 2
    else:
        assert together == sum(alone)


def test_two_strengths_of_one_attack_are_kept(plan: Any, carried_out: Any) -> None:
    # Named or not, 2 is what the config says: only the attack's own protocol makes the difference.
    for words in (("attack=apgd-ce", "eval.attack.num_steps=2"), ("attack=apgd-ce",)):
        made = plan(*words, "eval.lam_grid=1", "eval.test_examples=10", "eval.batch_size=10", "eval.sentinel=off")
        carried_out(made)
        keep_rows(made, 1, CPU)
    found = {row.num_steps for row in read_rows(made.run_path) if row.attack == "apgd-ce"}
    assert found == {2, 100}
