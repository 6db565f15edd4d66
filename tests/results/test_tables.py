from __future__ import annotations

import json
from dataclasses import replace

import pytest

from distcond.results.comparison import comparison_groups
from distcond.results.labels import align_decimals, attack_label, format_duration, noise_label, pixel_fraction
from distcond.results.row import attack_of
from distcond.results.tables import as_records, markdown_table, trade_off_table
from distcond.results.threat_table import threat_table

GOLDEN = """\
float | resnet34 | cifar10 | test | best checkpoint, epoch 29
PGD-20 Linf eps=8/255 step=2/255 restarts=1 float32 | no noise

lam           SA %           RA %      n
---  -------------  -------------  -----
0.0  94.31 +- 0.45   2.00 +- 0.27  10000
0.2  92.71 +- 0.51  24.36 +- 0.84  10000
1.0  86.31 +- 0.67  52.00 +- 0.98  10000"""

GOLDEN_WIDTHS = """\
oats | resnet34 | cifar10 | test | best checkpoint
PGD-20 Linf eps=8/255 step=2/255 restarts=1 float32 | no noise

run     width  density  lam           SA %           RA %     n
------  -----  -------  ---  -------------  -------------  ----
oats-a   0.50      0.1  0.5  90.30 +- 1.84  37.40 +- 2.99  1000
oats-a   1.00      0.1  0.5  90.30 +- 1.84  37.40 +- 2.99  1000
oats-b   0.75      0.2  0.5  90.30 +- 1.84  37.40 +- 2.99  1000"""

GOLDEN_MARKDOWN = """\
**float, resnet34, cifar10, test, best checkpoint, epoch 29**  
PGD-20 Linf eps=8/255 step=2/255 restarts=1 float32, noise fixed, 2 draws

| lam | SA % | RA % | n |
| ---: | ---: | ---: | ---: |
| 1.0 | 86.31 ± 0.67 | 52.00 ± 0.98 | 10000 |"""  # noqa: W291 (two spaces are Markdown's line break)


def test_golden(make_sweep):
    assert trade_off_table(make_sweep()[::-1]) == GOLDEN


def test_columns_appear_only_where_values_differ(make_sweep):
    common = {"grid": (0.5,), "n": 1000, "method": "oats"}
    rows = make_sweep(run_id="oats-a", width=0.5, density=0.1, **common)
    rows += make_sweep(run_id="oats-a", width=1.0, density=0.1, **common)
    rows += make_sweep(run_id="oats-b", width=0.75, density=0.2, epoch=7, **common)
    assert trade_off_table(rows) == GOLDEN_WIDTHS


def test_noise_draws_do_not_narrow_the_interval(make_sweep):
    rows = [row for seed in (5, 6) for row in make_sweep((1.0,), noise_mode="fixed", noise_seed=seed)]
    assert markdown_table(rows) == GOLDEN_MARKDOWN
    record = as_records(rows)[0]
    assert (record["ra_num_correct"], record["ra_num_examples"], record["ra_draws"]) == (10400, 20000, 2)


def test_table_takes_sa_of_the_attacks_epoch(make_row, make_sweep):
    rows = make_sweep((0.5,), epoch=3) + make_sweep((0.5,), epoch=9, n=100)
    rows += [make_row(epoch=10, lam=0.5, num_correct=1)]
    assert "epoch 9" in trade_off_table(rows)
    assert [record["sa_num_examples"] for record in as_records(rows)] == [100]


def test_old_attempts_are_not_extra_draws(make_sweep):
    records = as_records(make_sweep((0.5,), attempt=0, n=500) + make_sweep((0.5,), attempt=1, n=1000))
    assert [(r["sa_draws"], r["ra_draws"], r["ra_num_examples"]) for r in records] == [(1, 1, 1000)]


def test_missing_measurements_are_dashes(make_row, make_sweep):
    rows = [*make_sweep((0.0,)), make_row(lam=1.0)]
    assert trade_off_table(rows).splitlines()[-1].split() == ["1.0", "94.31", "+-", "0.45", "-", "10000"]
    assert as_records(rows)[-1]["ra"] is None
    assert trade_off_table([make_row()]).splitlines()[1:4] == [
        "no attack float32 | no noise",
        "",
        "lam           SA %      n",
    ]
    assert trade_off_table([]) == markdown_table([]) == "no results"


def test_unequal_counts_are_shown_apart(make_row):
    attack = {"attack": "autoattack", "norm": "Linf", "epsilon": 8 / 255}
    text = trade_off_table([make_row(), make_row(num_correct=300, num_examples=1000, **attack)])
    assert text.splitlines()[1] == "AutoAttack Linf eps=8/255 float32 | no noise"
    assert text.splitlines()[3].split() == ["lam", "SA", "%", "RA", "%", "n", "(SA)", "n", "(RA)"]
    assert text.splitlines()[-1].split()[-2:] == ["10000", "1000"]


def test_rows_of_different_images_share_no_line(make_row, make_sweep):
    attack = {"attack": "autoattack", "norm": "Linf", "epsilon": 8 / 255}
    rows = [make_row(images="a" * 12), make_row(images="b" * 12, num_correct=40, num_examples=60)]
    rows += [make_row(images="b" * 12, num_correct=30, num_examples=60, **attack)]
    assert [(r["sa_num_examples"], r["ra_num_examples"]) for r in as_records(rows)] == [(10000, None), (60, 60)]
    few, many = make_sweep(n=60, images="b" * 12), make_sweep(n=500, images="a" * 12)
    for order in (few + many, many + few):
        tables = trade_off_table(order).split("\n\n")
        assert [title.splitlines()[-1].split(" | ")[-1] for title in tables[::2]] == [
            "n = 500 (aaaaaa)",
            "n = 60 (bbbbbb)",
        ]
        assert [{line.split()[-1] for line in table.splitlines()[2:]} for table in tables[1::2]] == [{"500"}, {"60"}]


def test_incomparable_rows_get_separate_tables(make_sweep):
    rows = make_sweep() + make_sweep(checkpoint="last") + make_sweep(split="val") + make_sweep(noise_mode="fresh")
    rows += make_sweep(precision="bfloat16")
    assert len(trade_off_table(rows).split("\n\n")) == 2 * 5


def test_records_are_json(make_sweep):
    records = as_records(make_sweep())
    assert json.loads(json.dumps(records)) == records
    first = records[0]
    assert (first["lam"], first["sa"], first["attack"], first["num_steps"]) == (0.0, 0.9431, "pgd", 20)
    assert first["sa_low"] < first["sa"] < first["sa_high"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (8 / 255, "8/255"), (0.03137255, "8/255"), (2 / 255, "2/255"), (1 / 255, "1/255"), (128 / 255, "128/255"),
        (10 / 255 / 7, "0.005602"), (0.5, "0.5"), (0.03, "0.03"), (0.2, "0.2"), (1.0, "1"), (0.0, "0"), (2.0, "2"),
    ],
)  # fmt: skip
def test_epsilons(value, text):
    assert pixel_fraction(value) == text


def test_labels(make_row):
    attack = make_row(attack="apgd-t", norm="L2", epsilon=0.5, num_steps=100, restarts=5, precision="bfloat16")
    assert attack_label(attack_of(attack)) == "APGD-T-100 L2 eps=0.5 restarts=5 bfloat16"
    assert attack_label(attack_of(make_row(attack="mine:ATTACK"))) == "mine:ATTACK eps=0 float32"
    assert [noise_label("none", 1), noise_label("fresh", 1), noise_label("fixed", 3)] == [
        "no noise",
        "noise fresh",
        "noise fixed, 3 draws",
    ]
    assert align_decimals([0, 0.25, 1]) == ["0.00", "0.25", "1.00"]
    assert align_decimals([0, 1]) == ["0.0", "1.0"]
    assert [format_duration(s) for s in (41.2, 3300, 44280)] == ["41 s", "55 min", "12.3 h"]


@pytest.mark.parametrize("changes", [{"step_size": 0.0}, {"num_steps": 0}, {"epsilon": 0.0}])
def test_rows_of_no_attack_are_named_so(make_sweep, changes):
    rows = [replace(row, **changes) if row.attack == "pgd" else row for row in make_sweep()]
    assert "no attack (PGD)" in trade_off_table(rows)
    assert "no attack" in comparison_groups(rows)[0].attack
    assert "no attack" not in trade_off_table(make_sweep())


def test_titles_of_blends_fit_80_columns(make_sweep):
    rows = [replace(row, blend="weights", blend_t=row.lam, lam=1.0) for row in make_sweep()]
    lines = trade_off_table(rows).splitlines()
    assert max(map(len, lines)) <= 80
    assert "blend of weights, t from lam 0 to lam 1 | no noise" in lines
    assert "restarts=1 float32, blend of weights" in markdown_table(rows)


PGD = {"attack": "pgd", "norm": "Linf", "epsilon": 8 / 255, "step_size": 2 / 255, "num_steps": 20, "restarts": 1,
       "random_start": 1}  # fmt: skip


def test_threat_models_are_columns(make_row):
    rows = []
    for lam, robust in ((0.0, 100), (1.0, 500)):
        common = {"lam": lam, "num_examples": 1000, **PGD, "noise_mode": "fixed"}
        rows.append(make_row(num_correct=robust, **common))
        rows.append(make_row(num_correct=robust - 50, threat="worst", **common))
        rows.append(make_row(**common | {"noise_mode": "fresh", "num_correct": robust + 80}))
        rows.append(make_row(**common | {"noise_mode": "eot", "eot_draws": 5, "num_correct": robust + 20}))
    rows.append(make_row(lam=1.0, num_examples=1000, num_correct=700, threat="transfer", attack_lam=0.0,
                         noise_mode="fixed", **PGD))  # fmt: skip
    lines = threat_table(rows).splitlines()
    assert lines[0] == "RA % under PGD-20 Linf eps=8/255 step=2/255 restarts=1 float32 | n = 1000"
    assert lines[2].split() == ["lam", "knows", "lam", "from", "0", "worst", "knows", "lam", "knows", "lam"]
    assert lines[3].split("  ")[-1].strip() == "noise eot x5"
    assert lines[5].split() == ["0.0", "10.00", "-", "5.00", "18.00", "12.00"]
    assert lines[6].split() == ["1.0", "50.00", "70.00", "45.00", "58.00", "52.00"]
    assert len({len(line) for line in lines[2:]}) == 1


def test_one_threat_model_needs_no_comparison(make_sweep):
    assert threat_table(make_sweep()) == ""
