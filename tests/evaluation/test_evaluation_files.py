"""Every outcome is kept, is found again by what decides it, and by nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from distcond.atomic_io import read_json
from distcond.data.splits import image_set_digest
from distcond.errors import ConfigError
from distcond.evaluation import outcomes
from distcond.evaluation.outcomes import Outcome
from distcond.evaluation.rows import keep_rows

CPU = torch.device("cpu")


def test_counted_block_is_never_counted_again(plan: Any, carried_out: Any) -> None:
    made = plan("attack=pgd")
    carried_out(made, [0, 1])
    stamps = {path: path.stat().st_mtime_ns for path in made.run_path.rglob("outcomes/*/*.npz")}
    assert len(stamps) == 2 * 4
    carried_out(made)
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())
    assert len(list(made.run_path.rglob("outcomes/*/*.npz"))) == 3 * 4
    # Other attacks find the clean answers there, and PGD at other steps does too.
    more = plan("attack=pgd,fgsm", "eval.attack.num_steps=1")
    carried_out(more)
    assert len(list(made.run_path.rglob("outcomes/clean*/*.npz"))) == 3 * 2
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())


def test_kill_within_a_block_loses_one_file(plan: Any, carried_out: Any, correct: Any) -> None:
    whole = plan("attack=pgd,fgsm")
    carried_out(whole)
    before, files = correct(whole), whole.files()[1]
    files[-1].unlink()
    stamps = {path: path.stat().st_mtime_ns for path in files[:-1]}
    carried_out(whole)
    assert {path: path.stat().st_mtime_ns for path in files[:-1]} == stamps
    assert all(np.array_equal(before[m], values) for m, values in correct(whole).items())


def test_any_damage_to_an_outcome_is_refused(tmp_path: Path) -> None:
    """A sweep counts a damaged block again, and one rank alone must not stop over it: no other error may escape."""
    file, members, rng = tmp_path / "block.npz", np.arange(20), np.random.default_rng(0)
    outcomes.write(file, Outcome(members, members % 10, np.full(20, -1, dtype=np.int8), 12, 0.5))
    whole, refused = file.read_bytes(), 0
    for _ in range(1500):
        damaged = bytearray(whole)
        for at in rng.integers(0, len(whole), rng.integers(1, 4)):
            damaged[at] = rng.integers(256)
        file.write_bytes(damaged)
        try:
            found = outcomes.read(file, members)
        except ConfigError:
            refused += 1
        else:
            assert np.array_equal(found.broken_by, np.full(20, -1)) and np.array_equal(found.labels, members % 10)
    assert refused > 500


def test_damaged_outcome_is_refused_by_name(plan: Any, tmp_path: Path, carried_out: Any) -> None:
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
        with pytest.raises(ConfigError, match=r"block\.npz.*delete") as refusal:
            outcomes.read(file, members)
        assert "\n" not in str(refusal.value)
    file.write_bytes(whole)
    with pytest.raises(ConfigError, match="other examples"):
        outcomes.read(file, np.arange(3) + 1)
    made = plan("attack=fgsm")
    carried_out(made)
    made.files()[0][-1].write_bytes(b"gone")
    with pytest.raises(ConfigError, match=r"block-00000-n16\.npz"):
        keep_rows(made, 1, CPU)


def test_outcome_folder_depends_on_what_decides_it(plan: Any, carried_out: Any) -> None:
    base = plan("attack=pgd")
    others = [
        plan("attack=pgd", word)
        for word in ("eval.batch_size=8", "eval.attack.epsilon=0.2", "eval.noise_seed=1", "split=val", "noise=fresh")
    ]
    folders = [{made.folder(m) for m in made.cells() if m.attack} for made in (base, *others)]
    assert all(not folders[0] & other for other in folders[1:])
    fewer = plan("attack=pgd", "eval.test_examples=20", "launch.workers=1")
    assert {fewer.folder(m) for m in fewer.cells()} == {base.folder(m) for m in base.cells()}
    carried_out(plan("attack=pgd"), [0])
    (settings,) = (base.run_path / "outcomes").glob("pgd-lam1-*/settings.json")
    assert read_json(settings)["strength"]["num_steps"] == 2


def test_other_weights_reuse_no_outcome(plan: Any, carried_out: Any) -> None:
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


def test_the_last_block_may_be_short_or_whole(plan: Any, carried_out: Any, correct: Any) -> None:
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


def test_a_budget_counts_every_class_and_shares_blocks(plan: Any, carried_out: Any) -> None:
    fewer, more = plan("attack=none", "eval.test_examples=32"), plan("attack=none", "eval.test_examples=40")
    assert np.array_equal(fewer.members(1), more.members(1))
    assert fewer.images != more.images
    carried_out(fewer)
    held = outcomes.read(fewer.files()[0][-1], fewer.members(0))
    assert set(held.labels) == set(range(10))
    (row, *_) = keep_rows(plan("attack=none", "eval.test_examples=16"), 1, CPU)
    assert row.images == image_set_digest(fewer.split_images, fewer.members(0))


def test_all_examples_stay_in_their_order(plan: Any) -> None:
    for number in (0, 360, 999):
        made = plan("attack=none", f"eval.test_examples={number}")
        assert np.concatenate([made.members(block) for block in range(made.blocks)]).tolist() == list(range(360))
        assert "order" not in made.identity(next(made.cells()))


def test_one_width_of_several_is_counted_alone(plan: Any) -> None:
    made = plan("attack=fgsm")
    both = replace(made, width_mults=(1.0, 0.5), points=tuple(made.point(0.2, width) for width in (1.0, 0.5)))
    narrow = both.at_width(0.5)
    assert {cell.point.width for cell in narrow.cells()} == {0.5}
    assert all("width0.5" in str(file) for file in narrow.files()[0])
    assert {file for files in narrow.files().values() for file in files} < {
        file for files in both.files().values() for file in files
    }
