"""An evaluation counts every example once, keeps every outcome, repeats nothing, and means what it says."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from distcond.attacks.attack import Attack
from distcond.condition import AtLambda
from distcond.config.schema import AttackConfig
from distcond.data.dataset import Arrays
from distcond.data.memory import MemorySource
from distcond.engine.campaign import outcomes
from distcond.engine.campaign.cascade import adaptive
from distcond.engine.campaign.count_block import BlockCounter
from distcond.engine.campaign.gradient_signs import agreement, gradient_signs
from distcond.engine.campaign.noise_modes import attacker, judge
from distcond.engine.campaign.outcomes import Outcome
from distcond.engine.campaign.plan import Plan
from distcond.engine.campaign.tally import keep_rows, tally
from distcond.engine.restore import load
from distcond.engine.run_dir import read_json
from distcond.errors import ConfigError
from distcond.evaluate import main, planned
from distcond.results.row import Row
from distcond.results.store import read_rows

CPU = torch.device("cpu")


@pytest.fixture
def plan(trained: Path, tmp_path: Path) -> Callable[..., Plan]:
    """`plan(*words)`: of an evaluation of a copy of the trained run, which has no outcomes yet."""
    shutil.copytree(trained, tmp_path / "run", dirs_exist_ok=True, ignore=shutil.ignore_patterns("outcomes"))

    def made(*words: str) -> Plan:
        return planned([str(tmp_path / "run"), "eval.test_examples=40", "eval.batch_size=16", *words])

    return made


def carried_out(plan: Plan, order: list[int] | None = None) -> BlockCounter:
    counter = BlockCounter(plan, CPU)
    for block in order if order is not None else range(plan.blocks):
        counter(block)
    return counter


def correct(plan: Plan) -> dict[tuple[Any, ...], np.ndarray]:
    return {
        (m.attack.name if m.attack else "none", m.lam, m.noise, m.attack_lam): tally(plan, m).correct
        for m in plan.measures()
    }


def forward_rows(plan: Plan) -> int:
    return sum(tally(plan, measure).forward_rows for measure in dict.fromkeys(plan.measures()))


def test_rows_say_what_was_counted(plan: Any) -> None:
    made = plan("attack=pgd-best,fgsm", "eval.attack.num_steps=3")
    carried_out(made)
    rows = keep_rows(made, 1, CPU)
    assert {(r.attack, r.lam) for r in rows} == {(a, lam) for a in ("none", "pgd-best", "fgsm") for lam in (0.0, 1.0)}
    assert {(r.num_examples, r.block_size, r.precision, r.threat, r.noise_mode) for r in rows} == {
        (40, 16, "float32", "adaptive", "fixed")
    }
    by = {(r.attack, r.lam): r for r in rows}
    assert by["pgd-best", 1.0].num_steps == 3
    assert by["fgsm", 1.0].num_correct >= by["pgd-best", 1.0].num_correct
    assert 0 < by["pgd-best", 1.0].num_correct < by["none", 1.0].num_correct < 40
    kept = [r for r in read_rows(made.run_path) if r.block_size == 16]
    assert sorted(map(repr, kept)) == sorted(map(repr, rows))


def test_clean_counts_are_those_of_the_network_itself(plan: Any) -> None:
    made = plan("attack=none")
    counter = carried_out(made)
    ((raw, y),) = counter.source.read([np.arange(40)])
    network = AtLambda(load(made.run_path), 1.0, noise_seed=0)
    right = network(raw.permute(0, 3, 1, 2).float() / 255).argmax(1) == y
    assert np.array_equal(correct(made)["none", 1.0, "fixed", 1.0], right.numpy())


def test_1003_examples_give_the_same_outcomes_whoever_counts_them(plan: Any, monkeypatch: Any) -> None:
    # As one process after the other: that processes carry a plan out is shown in test_campaign_workers.
    rng = np.random.default_rng(0)
    source = MemorySource(Arrays(rng.integers(0, 256, (1003, 8, 8, 3)).astype(np.uint8), rng.integers(0, 10, 1003)))
    network = AtLambda(load(plan().run_path), 1.0)
    ((raw, _),) = source.read([np.arange(1003)])
    answers = network(raw.permute(0, 3, 1, 2).float() / 255).argmax(1)
    labelled = MemorySource(Arrays(raw.numpy(), answers.numpy()))
    monkeypatch.setattr("distcond.engine.campaign.count_block.open_source", lambda *_: labelled)
    found = []
    for workers in (1, 2, 3):
        made = replace(plan("attack=pgd-best", "eval.batch_size=100", "eval.attack.epsilon=0.02"), examples=1003)
        assert made.blocks == 11
        shutil.rmtree(made.run_path / "outcomes", ignore_errors=True)
        for worker in range(workers):
            carried_out(made, list(range(made.blocks))[worker::workers][::-1])
        found.append(correct(made))
    for other in found[1:]:
        assert all(np.array_equal(found[0][measure], other[measure]) for measure in found[0])
    assert {len(values) for values in found[0].values()} == {1003}
    assert 0 < found[0]["pgd-best", 1.0, "fixed", 1.0].sum() < 1003
    # Another block size counts every example once too, and may move a few near the boundary.
    made = replace(plan("attack=pgd-best", "eval.batch_size=77", "eval.attack.epsilon=0.02"), examples=1003)
    carried_out(made)
    moved = (correct(made)["pgd-best", 1.0, "fixed", 1.0] != found[0]["pgd-best", 1.0, "fixed", 1.0]).sum()
    assert len(correct(made)["pgd-best", 1.0, "fixed", 1.0]) == 1003
    assert moved < 30


def test_a_block_that_is_counted_is_never_counted_again(plan: Any) -> None:
    made = plan("attack=pgd-best")
    carried_out(made, [0, 1])
    stamps = {path: path.stat().st_mtime_ns for path in made.run_path.rglob("outcomes/*/*.npz")}
    assert len(stamps) == 2 * 4
    carried_out(made)
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())
    assert len(list(made.run_path.rglob("outcomes/*/*.npz"))) == 3 * 4
    # Other attacks find the clean answers there, and PGD at other steps does too.
    more = plan("attack=pgd-best,fgsm", "eval.attack.num_steps=1")
    carried_out(more)
    assert len(list(made.run_path.rglob("outcomes/clean*/*.npz"))) == 3 * 2
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())


def test_a_kill_between_two_files_of_a_block_loses_only_the_second(plan: Any) -> None:
    whole = plan("attack=pgd-best,fgsm")
    carried_out(whole)
    before, files = correct(whole), whole.files()[1]
    files[-1].unlink()
    stamps = {path: path.stat().st_mtime_ns for path in files[:-1]}
    carried_out(whole)
    assert {path: path.stat().st_mtime_ns for path in files[:-1]} == stamps
    assert all(np.array_equal(before[m], values) for m, values in correct(whole).items())


def test_m_lam_values_cost_at_most_m_times_one_and_clean_images_are_passed_once(plan: Any) -> None:
    one, three = plan("attack=pgd-best", "eval.lam_grid=1"), plan("attack=pgd-best", "eval.lam_grid=1,0.5,0.2")
    carried_out(three)
    dear = forward_rows(three)
    shutil.rmtree(three.run_path / "outcomes")
    carried_out(one)
    cheap = forward_rows(one)
    survivors = int(correct(one)["none", 1.0, "fixed", 1.0].sum())
    # Clean once; of what is right: two steps, the last point, and the judge.
    assert cheap == 40 + survivors * (2 + 1 + 1)
    counts = correct(three := plan("attack=pgd-best", "eval.lam_grid=1,0.5,0.2")) if carried_out(three) else {}
    rights = sum(int(counts["none", lam, "fixed", lam].sum()) for lam in (1.0, 0.5, 0.2))
    assert dear == 3 * 40 + rights * 4 <= 3 * (40 + 40 * 4)


def test_what_a_cheap_stage_breaks_pays_for_no_dear_one() -> None:
    asked: list[int] = []

    def stage(name: str, wrong: int) -> Attack:
        def run(logits: Any, x: torch.Tensor, y: torch.Tensor, config: AttackConfig, seed: int) -> torch.Tensor:
            asked.append(len(x))
            moved = x.clone()
            moved[:wrong] += 0.01
            return moved

        return Attack(name, "moves a few", run)

    def network(x: torch.Tensor) -> torch.Tensor:
        high = (x.flatten(1)[:, 0] > 0.505).float()
        return torch.stack([1 - high, high], 1)

    attack = Attack("both", "two", stages=(stage("a", 2), stage("b", 3)))
    x, y = torch.full((8, 3, 2, 2), 0.5), torch.zeros(8, dtype=torch.int64)
    y[7] = 1
    found = adaptive(network, network, x, y, network(x).argmax(1) == y, attack, AttackConfig(epsilon=0.02), 0)
    assert asked == [7, 5]
    assert found.tolist() == [1, 1, 2, 2, 2, -1, -1, 0]
    with pytest.raises(ConfigError, match=r"attack a: left the Linf ball of 0\.001 by"):
        adaptive(network, network, x, y, y == 0, attack, AttackConfig(epsilon=0.001), 0)


def test_threat_models_side_by_side(plan: Any) -> None:
    made = plan("attack=pgd-best", "threat=adaptive,transfer,worst", "noise=fixed,fresh,eot", "eot_draws=3")
    carried_out(made)
    rows = [row for row in keep_rows(made, 1, CPU) if row.attack == "pgd-best"]
    seen = {(r.threat, r.attack_lam, r.noise_mode, r.eot_draws) for r in rows if r.lam == 1.0}
    assert seen == {
        (threat, source, noise, 3 if noise == "eot" else 1)
        for threat, source in (("adaptive", 1.0), ("transfer", 0.0), ("worst", -1.0))
        for noise in ("fixed", "fresh", "eot")
    }
    counts: dict[tuple[str, float, str], Row] = {(r.threat, r.lam, r.noise_mode): r for r in rows}
    for noise in ("fixed", "fresh", "eot"):
        for lam in (0.0, 1.0):
            least = min(counts[threat, lam, noise].num_correct for threat in ("adaptive", "transfer"))
            assert counts["worst", lam, noise].num_correct <= least
    assert counts["transfer", 1.0, "fixed"].num_correct >= counts["adaptive", 1.0, "fixed"].num_correct
    found = correct(made)
    survivors = found["pgd-best", 1.0, "fixed", 1.0] & found["pgd-best", 1.0, "fixed", 0.0]
    assert counts["worst", 1.0, "fixed"].num_correct == survivors.sum()
    # At lam 0 there is no noise: all noise modes are one.
    assert len({counts["adaptive", 0.0, noise].num_correct for noise in ("fixed", "fresh", "eot")}) == 1


def test_noise_modes_draw_as_they_say(plan: Any) -> None:
    model = load(plan().run_path)
    x = torch.rand((4, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    networks = {n: attacker(model, 1.0, 0, n, 0, 3, ("a", 0)) for n in ("fixed", "fresh", "eot")}
    assert torch.equal(networks["fixed"](x), networks["fixed"](x))
    first, second = networks["fresh"](x), networks["fresh"](x)
    assert not torch.equal(first, second)
    again = attacker(model, 1.0, 0, "fresh", 0, 1, ("a", 0))
    assert torch.equal(again(x), first)
    third = networks["fresh"](x)
    assert torch.allclose(networks["eot"](x), torch.stack([first, second, third]).mean(0), atol=1e-6)
    assert networks["eot"].rows == 12
    known, unknown = (judge(model, 1.0, 0, noise, 0, 5) for noise in ("fixed", "eot"))
    assert torch.equal(known(x), networks["fixed"](x))
    assert torch.equal(unknown(x), judge(model, 1.0, 0, "fresh", 0, 5)(x))
    assert not torch.equal(unknown(x), judge(model, 1.0, 0, "fresh", 0, 6)(x))
    assert not torch.equal(unknown(x), known(x))


def test_the_probe_compares_the_signs_of_gradients(plan: Any) -> None:
    found = gradient_signs(plan("attack=none"), CPU)
    assert set(found) == {0.0, 1.0}
    assert all(0.8 < share <= 1 for share in found.values())
    # Two classes: the gradient points along one weight, whichever way the loss goes.
    x, y = torch.full((4, 3, 2, 2), 0.5), torch.zeros(4, dtype=torch.int64)
    weight = torch.linspace(-1, 1, 12)

    def network(at: torch.Tensor, turned: bool) -> torch.Tensor:
        down = turned and torch.is_autocast_enabled("cpu")
        up = (at.flatten(1) * (-weight if down else weight)).sum(1)
        return torch.stack([up, torch.zeros_like(up)], 1)

    assert agreement(lambda at: network(at, False), x, y) == 1.0
    assert agreement(lambda at: network(at, True), x, y) == 0.0
    assert agreement(lambda at: torch.zeros(4, 2) + 0 * at.sum(), x, y) == 1.0


def test_an_outcome_is_read_back_and_a_damaged_one_is_refused_by_name(plan: Any, tmp_path: Path) -> None:
    file, members = tmp_path / "a" / "block.npz", np.arange(3)
    kept = Outcome(members, members + 5, np.array([-1, 0, 2], dtype=np.int8), 12, 0.5, {"zero_gradients": 0.25})
    outcomes.write(file, kept)
    back = outcomes.read(file, members)
    assert back.correct.tolist() == [True, False, False]
    assert back.labels.tolist() == [5, 6, 7]
    assert (back.forward_rows, back.seconds, back.statistics) == (12, 0.5, {"zero_gradients": 0.25})
    whole = file.read_bytes()
    np.savez(tmp_path / "pickled.npz", examples=np.array([{}], dtype=object))
    for bad in (whole[:-30], b"", b"no archive", (tmp_path / "pickled.npz").read_bytes()):
        file.write_bytes(bad)
        with pytest.raises(ConfigError, match=r"block\.npz is no outcome of this block .*; delete it") as refusal:
            outcomes.read(file, members)
        assert "\n" not in str(refusal.value)
    file.write_bytes(whole)
    with pytest.raises(ConfigError, match="other examples"):
        outcomes.read(file, np.arange(3) + 1)
    made = plan("attack=fgsm")
    carried_out(made)
    made.files()[0][-1].write_bytes(b"gone")
    with pytest.raises(ConfigError, match=r"block-00000-n16\.npz is no outcome"):
        keep_rows(made, 1, CPU)


def test_what_decides_an_outcome_has_a_folder_of_its_own(plan: Any) -> None:
    base = plan("attack=pgd-best")
    others = [
        plan("attack=pgd-best", word)
        for word in ("eval.batch_size=8", "eval.attack.epsilon=0.2", "eval.noise_seed=1", "split=val", "noise=fresh")
    ]
    folders = [{made.folder(m) for m in made.measures() if m.attack} for made in (base, *others)]
    assert all(not folders[0] & other for other in folders[1:])
    fewer = plan("attack=pgd-best", "eval.test_examples=20", "launch.workers=1")
    assert {fewer.folder(m) for m in fewer.measures()} == {base.folder(m) for m in base.measures()}
    pgd, fgsm = plan("attack=pgd-best,fgsm").attacks
    asked = [base.attack_seed(attack, block) for attack in (pgd, fgsm) for block in (0, 1)]
    assert len(set(asked)) == 4
    assert asked[0] == plan("attack=pgd-best", "eval.lam_grid=0.5", "launch.workers=2").attack_seed(pgd, 0)
    carried_out(plan("attack=pgd-best"), [0])
    (settings,) = (base.run_path / "outcomes").glob("pgd-best-lam1-*/settings.json")
    assert read_json(settings)["strength"]["num_steps"] == 2


REFUSED = {
    "attack=pgd-bst": "unknown attack 'pgd-bst': did you mean pgd-best?",
    "attak=fgsm": "unknown setting of an evaluation 'attak': did you mean attack?",
    "eval.attack.num_steps=0": "pgd-best would move nothing",
    "eval.attack.epsilon=8": "eval.attack.epsilon=8: pixels are in [0, 1]; did you mean 8/255?",
    "eval.attack.step_size=2": "eval.attack.step_size=2: pixels are in [0, 1]; did you mean 2/255?",
    "threat=whitebox": "valid: adaptive, transfer, worst",
    "noise=none": "valid: fixed, fresh, eot",
    "attack_lam=2": "attack_lam=2: must lie in [0, 1]",
    "eot_draws=1": "eot_draws=1: must be at least 2",
    "split=train": "valid: test, val",
    "checkpoint=first": "valid: best, last, last_raw",
    "launch.workers=4": "40 examples in blocks of eval.batch_size=16; valid: 1 to 3, or smaller blocks",
}


@pytest.mark.parametrize("word", REFUSED)
def test_bad_input_is_one_line_that_names_what_is_valid(plan: Any, word: str) -> None:
    path = plan().run_path
    with pytest.raises(ConfigError) as refusal:
        main([str(path), "eval.test_examples=40", "eval.batch_size=16", word])
    assert REFUSED[word] in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_what_cannot_be_looked_at_is_refused(plan: Any, small: Any, tmp_path: Path, monkeypatch: Any) -> None:
    with pytest.raises(ConfigError, match="no run here"):
        planned([str(tmp_path / "nowhere")])
    path = plan().run_path
    with pytest.raises(ConfigError, match="threat=transfer: every attack would be at its own lam"):
        plan("threat=transfer", "eval.lam_grid=1")
    with pytest.raises(ConfigError, match=r"noise=fresh: attack=autoattack-rand averages over 20 draws by itself"):
        plan("attack=autoattack-rand", "noise=fresh")
    with pytest.raises(ConfigError, match=r"epsilon=128: pixels are in \[0, 1\]; did you mean 128/255"):
        plan("eval.attack.norm=L2", "eval.attack.epsilon=128")
    monkeypatch.setattr("distcond.engine.campaign.make_plan.open_source", lambda *_: [])
    with pytest.raises(ConfigError, match="split=test: digits has no examples there"):
        plan()
    shutil.rmtree(path / "checkpoints")
    with pytest.raises(ConfigError, match="no checkpoint yet"):
        plan()


def test_two_strengths_of_one_attack_stand_side_by_side(plan: Any) -> None:
    # Named or not, 2 is what the config says: only the attack's own protocol makes the difference.
    for words in (("attack=apgd-ce", "eval.attack.num_steps=2"), ("attack=apgd-ce",)):
        made = plan(*words, "eval.lam_grid=1", "eval.test_examples=10", "eval.batch_size=10", "eval.sentinel=off")
        carried_out(made)
        keep_rows(made, 1, CPU)
    found = {row.num_steps for row in read_rows(made.run_path) if row.attack == "apgd-ce"}
    assert found == {2, 100}


def test_other_weights_in_the_same_directory_find_nothing_to_reuse(plan: Any) -> None:
    before = plan("attack=fgsm")
    carried_out(before)
    kept = set(before.run_path.rglob("outcomes/*/*.npz"))
    for what in ("weight", "running_mean"):
        (checkpoint,) = (before.run_path / "checkpoints").iterdir()
        part = checkpoint / ("shared.pt" if what == "weight" else "rank-0000.pt")
        state = torch.load(part, weights_only=True)
        held = state["model" if what == "weight" else "statistics"]
        held[next(name for name in held if name.endswith(what))] += 1e-3
        torch.save(state, part)
        with pytest.raises(ConfigError, match="has a new best checkpoint"):
            carried_out(before)
        after = plan("attack=fgsm")
        assert not kept & {file for files in after.files().values() for file in files}
        carried_out(after)
        found = set(before.run_path.rglob("outcomes/*/*.npz"))
        assert len(found - kept) == 3 * 4
        before, kept = after, found


def test_the_last_block_may_be_short_or_whole(plan: Any) -> None:
    found = {}
    for number in (40, 45, 32, 40):
        made = plan("attack=fgsm", f"eval.test_examples={number}", "eval.lam_grid=1")
        carried_out(made)
        found[number] = correct(made)["fgsm", 1.0, "fixed", 1.0]
        assert len(found[number]) == number
    # Two blocks are shared; the third is counted with 8 and with 13 members, and neither disturbs the other.
    assert len(list(made.run_path.rglob("outcomes/*/*.npz"))) == 2 * (2 + 2)
    assert np.array_equal(found[40][:32], found[32])
    assert np.array_equal(found[45][:32], found[32])
