from __future__ import annotations

import math
from dataclasses import asdict, replace

import numpy as np
import pytest

from distcond.errors import ConfigError
from distcond.results.interval import wilson
from distcond.results.row import (
    SCHEMA_VERSION,
    accuracy,
    highest_attempt,
    interval,
    key,
    position,
)
from distcond.results.row_versions import OLDER, from_dict


def test_a_row_survives_a_dict(make_sweep):
    for row in make_sweep(width=0.5, noise_mode="fixed", noise_seed=3):
        assert from_dict(asdict(row)) == row


def test_accuracy_and_its_interval(make_row):
    row = make_row(num_correct=8, num_examples=10)
    assert accuracy(row) == 0.8
    # By hand: (0.8 + 1.96^2/20 +- 1.96 sqrt(0.8 * 0.2 / 10 + 1.96^2 / 400)) / (1 + 1.96^2 / 10)
    assert interval(row) == pytest.approx((0.49016, 0.94332), abs=2e-5)


def test_interval_stays_within_zero_and_one():
    assert wilson(0, 10) == pytest.approx((0.0, 0.27753), abs=2e-5)
    assert wilson(10, 10) == pytest.approx((0.72247, 1.0), abs=2e-5)
    assert wilson(5000, 10000).half_width == pytest.approx(0.0098, abs=1e-4)


def test_numbers_from_arrays_become_plain(make_row):
    row = make_row(num_correct=np.int64(3), num_examples=np.int32(9), lam=np.float32(0.5), width=1)
    assert [type(v) for v in (row.num_correct, row.num_examples, row.lam, row.width)] == [int, int, float, float]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lam": 1.5}, "row.lam"),
        ({"lam": math.nan}, "row.lam"),
        ({"num_correct": 10001}, "row.num_correct"),
        ({"num_correct": 94.31}, "row.num_correct"),
        ({"num_correct": True}, "row.num_correct"),
        ({"num_examples": 0}, "row.num_correct"),
        ({"split": "valid"}, "'val', 'test'"),
        ({"checkpoint": "newest"}, "'last', 'best', 'live'"),
        ({"norm": "Linfinity", "attack": "pgd"}, "'Linf', 'L2'"),
        ({"epsilon": 8 / 255}, "row.attack is 'none'"),
        ({"run_id": 7}, "row.run_id"),
        ({"epoch": -1}, "row.epoch"),
        ({"random_start": 1}, "row.attack is 'none'"),
        ({"random_start": -1, "attack": "pgd"}, "row.random_start"),
    ],
)
def test_bad_values_are_refused(make_row, changes, message):
    with pytest.raises(ConfigError, match=message) as caught:
        make_row(**changes)
    assert "\n" not in str(caught.value)


def test_other_schemas_are_refused(make_row):
    good = asdict(make_row())
    with pytest.raises(ConfigError, match=r"part-7: schema_version is 99.* 1, 2, 3, 4"):
        from_dict(good | {"schema_version": 99}, "part-7")
    with pytest.raises(ConfigError, match="schema_version is None"):
        from_dict({})
    with pytest.raises(ConfigError, match="missing lam, num_correct"):
        from_dict({name: value for name, value in good.items() if name not in ("lam", "num_correct")})
    with pytest.raises(ConfigError, match="unknown accuracy"):
        from_dict(good | {"accuracy": 0.9})
    with pytest.raises(ConfigError, match=r"part-7: row\.lam is '0\.5'"):
        from_dict(good | {"lam": "0.5"}, "part-7")


def test_version_1_row_reads_with_later_defaults(make_row):
    old = {n: v for n, v in asdict(make_row(lam=0.3)).items() if n not in OLDER[1]} | {"schema_version": 1}
    row = from_dict(old)
    assert (row.threat, row.attack_lam, row.eot_draws, row.block_size, row.warnings) == ("adaptive", 0.3, 1, 0, "")
    assert (row.random_start, row.weights, row.schema_version) == (0, "", SCHEMA_VERSION)
    with pytest.raises(ConfigError, match="missing random_start, threat"):
        from_dict(old | {"schema_version": SCHEMA_VERSION})


@pytest.mark.parametrize(("attack", "random_start"), [("pgd", 1), ("cw", 1), ("fgsm", 0), ("apgd-ce", 0), ("none", 0)])
def test_version_2_row_keeps_its_random_start(make_row, attack, random_start):
    own = {"attack": attack, "step_size": 0.1 if attack in ("pgd", "cw", "fgsm") else 0.0} if attack != "none" else {}
    old = {n: v for n, v in asdict(make_row(**own)).items() if n not in OLDER[2]} | {"schema_version": 2}
    assert from_dict(old).random_start == random_start


@pytest.mark.parametrize("version", [*OLDER, SCHEMA_VERSION])
def test_older_rows_get_the_present_attack_names(make_row, version):
    for name, now in {"pgd": "pgd-last", "pgd-best": "pgd", "cw": "cw", "none": "none"}.items():
        row = asdict(make_row(attack=name)) | {"schema_version": version}
        assert from_dict(row).attack == (now if version < 5 else name)


def test_attack_lam_follows_the_threat(make_row):
    assert make_row(lam=0.2, attack_lam=0.7).attack_lam == 0.2
    assert make_row(lam=0.2, threat="transfer", attack_lam=0.7).attack_lam == 0.7
    assert make_row(threat="worst").attack_lam == -1
    for bad in (
        {"threat": "transfer"},
        {"threat": "worst", "attack_lam": 0.5},
        {"threat": "transfer", "attack_lam": 2},
    ):
        with pytest.raises(ConfigError, match="attack_lam"):
            make_row(**bad)
    with pytest.raises(ConfigError, match="'adaptive', 'transfer', 'worst'"):
        make_row(threat="white-box")


def test_key_depends_on_settings_not_results(make_sweep):
    row = make_sweep()[1]
    same = {
        "attempt": 3,
        "num_correct": 1,
        "num_examples": 2,
        "wall_seconds": 9.0,
        "world_size": 4,
        "git_commit": "f00",
    }
    assert key(replace(row, **same)) == key(row)
    other = {
        "run_id": "x", "epoch": 1, "split": "val", "checkpoint": "last", "lam": 0.3, "width": 0.5, "attack": "apgd",
        "norm": "L2", "epsilon": 0.5, "step_size": 0.1, "num_steps": 7, "restarts": 5, "precision": "bfloat16",
        "noise_mode": "fixed", "noise_seed": 1, "threat": "transfer", "eot_draws": 5, "block_size": 100,
        "random_start": 0, "images": "a1b2",
    }  # fmt: skip
    assert all(key(replace(row, **{name: value})) != key(row) for name, value in other.items())


def test_float32_and_float64_give_one_key(make_row):
    values = {"lam": 0.2, "attack": "pgd", "norm": "Linf", "epsilon": 8 / 255, "step_size": 2 / 255}
    single = {name: float(np.float32(v)) if isinstance(v, float) else v for name, v in values.items()}
    assert single != values
    assert key(make_row(**single)) == key(make_row(**values))


def test_the_highest_attempt_wins_in_any_order(make_row):
    rows = [make_row(attempt=attempt, num_correct=attempt) for attempt in (1, 3, 2)] + [
        make_row(lam=0.5, num_correct=7)
    ]
    for order in (rows, rows[::-1]):
        assert [row.num_correct for row in highest_attempt(order)] == [3, 7]


def test_more_examples_win_among_equal_attempts(make_row):
    quick, full = make_row(num_correct=90, num_examples=100), make_row(num_correct=9000, num_examples=10000)
    for order in ([quick, full], [full, quick]):
        assert highest_attempt(order) == [full]
    assert highest_attempt([make_row(num_correct=1), make_row(num_correct=2)])[0].num_correct == 2


@pytest.mark.parametrize("num_examples", [1, 7, 360, 2000, 10000])
def test_interval_contains_the_accuracy_at_both_ends(num_examples: int) -> None:
    for num_correct in (0, num_examples):
        low, high = wilson(num_correct, num_examples)
        assert low <= num_correct / num_examples <= high


def test_row_of_version_3_has_no_blend(make_row):
    old = {n: v for n, v in asdict(make_row(lam=0.3)).items() if n not in OLDER[3]} | {"schema_version": 3}
    row = from_dict(old)
    assert (row.lam, row.blend, row.blend_t, row.schema_version) == (0.3, "", 0.0, SCHEMA_VERSION)


def test_points_of_blends_have_distinct_keys(make_row):
    rows = [make_row(lam=1.0, blend=blend, blend_t=t) for blend in ("weights", "outputs") for t in (0.0, 0.5, 1.0)]
    rows.append(make_row(lam=1.0))
    assert len(highest_attempt(rows)) == 7
    assert [position(row) for row in (rows[1], rows[-1])] == [0.5, 1.0]


@pytest.mark.parametrize(
    ("blend", "t", "message"),
    [("", 0.5, "row.blend_t is 0.5"), ("weights", 1.5, "row.blend_t is 1.5"), ("mean", 0.5, "row.blend is 'mean'")],
)
def test_a_blend_outside_its_range_is_refused(make_row, blend, t, message):
    with pytest.raises(ConfigError, match=message):
        make_row(lam=1.0, blend=blend, blend_t=t)
