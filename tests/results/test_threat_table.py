from __future__ import annotations

from distcond.results.threat_table import threat_table

PGD = {"attack": "pgd", "norm": "Linf", "epsilon": 8 / 255, "step_size": 2 / 255, "num_steps": 20, "restarts": 1,
       "random_start": 1}  # fmt: skip


def test_threat_models_stand_side_by_side(make_row):
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
