"""Selection of operating points: Pareto set, hypervolume, knee, the cheapest point and its confidence."""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import NormalDist

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distcond.errors import ConfigError
from distcond.operating_point import OperatingPoint
from distcond.reporting.terminal import (
    SCALE_WIDTH,
    accuracy_scale,
    choice_text,
    comparison_text,
    demand_line,
    pareto_summary,
)
from distcond.results.comparison import MeasuredPoint, comparison_groups
from distcond.results.cost import InferenceCost
from distcond.results.interval import confidence, wilson
from distcond.results.pareto import area, hypervolume, knee, pareto_set, possibly_pareto
from distcond.results.selection import (
    Demand,
    cheapest,
    choose_points,
    confidence_of,
    meets,
    nearest_miss,
    parse_accuracy,
)
from distcond.results.series import PointKey, Score

N = 1000
counts = st.integers(0, N)


def point(sa: int, ra: int, flops: float | None = None, name: str = "", lam: float = 0.0) -> MeasuredPoint:
    """A point with so many correct examples of a thousand."""
    return MeasuredPoint(PointKey("run", OperatingPoint(lam)), name, Score(sa, N, 1), Score(ra, N, 1), 1.0, flops)


many = st.lists(st.builds(point, counts, counts), min_size=1, max_size=9)
priced = st.lists(st.builds(point, counts, counts, st.sampled_from([1.0, 2.0, 3.0])), min_size=1, max_size=9)


def test_the_pareto_set_by_hand():
    best, dominated, cheap = point(900, 300), point(899, 299), point(850, 250)
    assert pareto_set([best, dominated, cheap]) == [best]
    assert pareto_set([best, point(950, 100), dominated]) == [best, point(950, 100)]
    costs = [best._replace(flops=2.0), dominated._replace(flops=2.0), cheap._replace(flops=1.0)]
    assert pareto_set(costs) == [costs[0], costs[2]]
    # With one point of unknown cost, cost is ignored.
    assert pareto_set([*costs, point(10, 10)]) == [costs[0]]


def test_pareto_set_keeps_ties_but_not_half_ties():
    same = [point(900, 300, lam=0.0), point(900, 300, lam=1.0)]
    assert pareto_set(same) == same
    assert pareto_set([*same, point(900, 299)]) == same


def test_dominated_within_intervals_is_possibly_pareto():
    best, near, far = point(900, 300), point(899, 299), point(700, 100)
    assert possibly_pareto([best, near, far]) == [near]
    # Clearly lower SA, but RA within the interval.
    assert possibly_pareto([best, point(700, 299)]) == [point(700, 299)]
    # Clearly lower in both, but cheaper: it is in the set itself.
    assert possibly_pareto([best._replace(flops=2.0), far._replace(flops=1.0)]) == []
    assert possibly_pareto([best._replace(flops=2.0), far._replace(flops=3.0)]) == []


@given(priced)
def test_pareto_set_dominates_all_other_points(points):
    inside = pareto_set(points)
    assert inside
    assert not set(inside) & set(possibly_pareto(points))
    for p in points:
        at_least = [
            q for q in inside
            if q.sa.accuracy >= p.sa.accuracy and q.ra.accuracy >= p.ra.accuracy and q.flops <= p.flops
        ]  # fmt: skip
        assert at_least


unpriced = st.lists(st.builds(point, counts, counts, st.sampled_from([None, 1.0, 2.0])), min_size=1, max_size=9)
crowded = st.lists(st.builds(point, st.integers(0, 3), st.integers(0, 3), st.sampled_from([1.0, 2.0])), max_size=9)


@given(st.one_of(many, priced, unpriced, crowded))
def test_pareto_sets_equal_those_of_all_pairs(points):
    known = all(p.flops is not None for p in points)

    def goals(p):
        return p.sa.accuracy, p.ra.accuracy, -p.flops if known else 0

    def dominates(a, b):
        return goals(a) != goals(b) and all(x >= y for x, y in zip(goals(a), goals(b), strict=True))

    def clearly(a, b):
        cheap = a.flops is None or b.flops is None or a.flops <= b.flops
        return cheap and a.sa.interval.low >= b.sa.interval.high and a.ra.interval.low >= b.ra.interval.high

    assert pareto_set(points) == [p for p in points if not any(dominates(q, p) for q in points)]
    inside = pareto_set(points)
    assert possibly_pareto(points) == [p for p in points if p not in inside and not any(clearly(q, p) for q in points)]


def test_the_hypervolume_by_hand():
    assert area([(0.5, 0.4)]) == pytest.approx(0.2)
    # Two boxes 0.9 x 0.1 and 0.5 x 0.4 share 0.5 x 0.1.
    assert area([(0.9, 0.1), (0.5, 0.4)]) == pytest.approx(0.09 + 0.2 - 0.05)
    assert area([(0.9, 0.1), (0.5, 0.4), (0.4, 0.3), (0.5, 0.4)]) == pytest.approx(0.24)
    # From (SA 0.1, RA 0.05): 0.8 x 0.05 and 0.4 x 0.35 share 0.4 x 0.05.
    assert area([(0.9, 0.1), (0.5, 0.4)], (0.1, 0.05)) == pytest.approx(0.04 + 0.14 - 0.02)
    assert area([(0.9, 0.1), (0.5, 0.4)], (0.5, 0.2)) == 0
    assert area([]) == 0


@given(many, st.tuples(counts, counts))
def test_hypervolume_equals_pareto_sets_and_lies_in_interval(points, reference):
    corner = reference[0] / N, reference[1] / N
    found = hypervolume(points, corner)
    assert found.value == pytest.approx(hypervolume(pareto_set(points), corner).value)
    assert 0 <= found.ends.low <= found.value + 1e-12 and found.value <= found.ends.high + 1e-12 <= 1 + 1e-9
    assert hypervolume([*points, point(N, N)], corner).value == pytest.approx((1 - corner[0]) * (1 - corner[1]))


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=8))
def test_hypervolume_counts_each_grid_cell_once(corners):
    cells = {(x, y) for right, top in corners for x in range(right) for y in range(top)}
    assert area([(x / 12, y / 12) for x, y in corners]) == pytest.approx(len(cells) / 144)


def test_the_knee_is_the_point_that_stands_out():
    ends = [point(900, 100), point(500, 500)]
    assert knee(ends) is None
    assert knee([*ends, point(700, 300)]) is None  # on the line between them
    assert knee([*ends, point(600, 300)]) is None  # below it
    bend = point(800, 450)
    assert knee([ends[0], point(850, 300), bend, point(700, 460), ends[1]]) == bend
    # A dominated point is never the knee; equal points count once.
    assert knee([*ends, bend, bend, point(799, 449)]) == bend


def test_the_cheapest_point():
    wide, narrow, robust = point(900, 300, 4.0), point(850, 280, 1.0), point(800, 400, 4.0)
    points = [wide, narrow, robust]
    assert cheapest(points, Demand(sa=0.8)) == narrow
    assert cheapest(points, Demand(sa=0.86)) == wide
    assert cheapest(points, Demand(ra=0.29)) == wide  # equal cost, higher SA
    assert cheapest([*points, point(800, 401, 4.0)], Demand(ra=0.29, sa=0.7)) == point(800, 401, 4.0)  # highest SA + RA
    assert cheapest(points, Demand(ra=0.35)) == robust
    assert cheapest(points, Demand(sa=0.95)) is None
    assert nearest_miss(points, Demand(sa=0.95)) == wide
    assert nearest_miss(points, Demand(sa=0.95, ra=0.5)) == robust
    # A point of unknown cost comes last.
    assert cheapest([point(990, 990), robust], Demand(sa=0.5)) == robust
    assert cheapest([point(990, 990)], Demand(sa=0.5)) is not None


def test_sure_demand_uses_the_lower_bound():
    near, clear = point(800, 310, 1.0), point(700, 350, 2.0)
    assert cheapest([near, clear], Demand(ra=0.3)) == near
    assert cheapest([near, clear], Demand(ra=0.3, sure=True)) == clear
    assert not meets(near, Demand(ra=0.3, sure=True))
    assert str(Demand(sa=0.8, ra=0.3, sure=True)) == "SA >= 80 % and RA >= 30 %, at the intervals' lower ends"


@given(priced, st.integers(0, N), st.integers(0, N), st.booleans())
def test_chosen_point_is_cheapest_that_meets_demand(points, sa, ra, sure):
    demand = Demand(sa / N, ra / N, sure)
    chosen = cheapest(points, demand)
    fitting = [p for p in points if meets(p, demand)]
    assert (chosen is None) == (not fitting)
    if chosen:
        assert chosen in fitting
        assert chosen.flops == min(p.flops for p in fitting)


@given(st.integers(1, 5000), st.data())
def test_confidence_inverts_the_one_sided_interval(n, data):
    correct, sure = data.draw(st.integers(1, n)), data.draw(st.floats(0.6, 0.999))
    low = wilson(correct, n, NormalDist().inv_cdf(sure)).low
    assert confidence(correct, n, low) == pytest.approx(sure, abs=1e-6)


def test_confidences_at_the_ends():
    assert confidence(0, 10, 0.0) == confidence(10, 10, 0.0) == 1
    assert confidence(9, 10, 1.0) == 0
    assert confidence(10, 10, 1.0) == 0.5
    assert confidence(50, 100, 0.5) == 0.5
    assert confidence(5000, 10000, 0.45) > 0.999999
    # 26.1 % of 2000 against 25 %: 0.011 / sqrt(0.25 * 0.75 / 2000) = 1.136 deviates.
    assert confidence(522, 2000, 0.25) == pytest.approx(NormalDist().cdf(0.011 / math.sqrt(0.1875 / 2000)))


def test_joint_confidence_is_below_each_single_one():
    p = point(820, 320)
    one, two = confidence_of(p, Demand(sa=0.8)), confidence_of(p, Demand(ra=0.3))
    assert confidence_of(p, Demand(sa=0.8, ra=0.3)) == pytest.approx(one + two - 1)
    assert confidence_of(point(500, 100), Demand(sa=0.8, ra=0.3)) == 0


@pytest.mark.parametrize(("text", "level"), [("0.3", 0.3), ("30%", 0.3), ("30 %", 0.3), ("1", 1.0), ("0", 0.0)])
def test_accuracies_parse(text, level):
    assert parse_accuracy("ra", text) == pytest.approx(level)


@pytest.mark.parametrize("text", ["30", "-0.1", "nan", "inf", "a", "", "%", "101%"])
def test_invalid_accuracies_are_refused(text):
    with pytest.raises(ConfigError, match=r"^ra=.*: .*30%"):
        parse_accuracy("ra", text)


def test_scale_shows_both_accuracies_with_intervals():
    line = accuracy_scale(Score(900, N, 1), Score(0, N, 1))
    assert len(line) == SCALE_WIDTH
    assert line.index("S") == 54 and line[53:56] == "-S-"
    assert line.startswith("R")
    assert accuracy_scale(Score(500, N, 1), Score(500, N, 1)).count("B") == 1
    assert accuracy_scale(Score(N, N, 1), Score(20, 40, 1))[-1] == "S"


def test_protocols_form_separate_groups(make_row, make_sweep):
    fgsm = {"attack": "fgsm", "norm": "Linf", "epsilon": 8 / 255}
    rows = [*make_sweep(), make_row(lam=0.2, num_correct=5000, **fgsm), *make_sweep(run_id="b", method="oat")]
    costs = {PointKey("float-1a2b", OperatingPoint(0.2)): InferenceCost(3e6, 7)}
    groups = comparison_groups(rows, costs)
    assert sorted(group.attack for group in groups) == [
        "FGSM Linf eps=8/255 float32",
        "PGD-20 Linf eps=8/255 step=2/255 restarts=1 float32",
    ]
    fgsm_group, pgd = sorted(groups, key=lambda group: group.attack)
    assert [(p.at.point.lam, p.flops) for p in fgsm_group.points] == [(0.2, 3e6)]
    assert [str(p) for p in pgd.points] == [f"{name}, lam {lam}" for name in ("oat", "float") for lam in (0, 0.2, 1)]
    assert comparison_groups([make_row()]) == []


def test_widths_are_points_of_one_run(make_sweep):
    rows = make_sweep((0.0, 1.0), width=1.0) + make_sweep((0.0, 1.0), width=0.5)
    (group,) = comparison_groups(rows)
    assert [str(p) for p in group.points] == ["lam 0", "lam 1", "lam 0 width 0.5", "lam 1 width 0.5"]


def test_comparison_text_of_a_group(make_sweep):
    (group,) = comparison_groups(make_sweep((0.0, 0.2, 0.5, 1.0)))
    text = comparison_text(group, (0.1, 0.0))
    summary = pareto_summary(group.points, (0.1, 0.0))
    assert f"hypervolume {summary.volume.value:.3f} (" in text
    assert "reference point SA 10 %, RA 0 %" in text
    assert text.count("* lam") == 4
    assert "knee: lam 0.2: SA 92.7 % (92.2-93.2), RA 24.4 % (23.5-25.2)" in text
    chosen = chosen_text([group], sa=0.9, ra=0.2)
    assert "SA >= 90 % and RA >= 20 %: take lam 0.5: SA 90.3 % (89.7-90.9), RA 37.4 %" in chosen
    assert chosen.endswith("holds with 85 %")
    assert "no point here; nearest is lam 1" in demand_line(group.points, Demand(ra=0.9))


def chosen_text(groups, **levels) -> str:
    demand = Demand(**levels)
    return choice_text(choose_points(groups, demand), demand)


APGD = {"attack": "apgd-t", "norm": "Linf", "epsilon": 8 / 255, "num_steps": 100, "restarts": 1}


def weaken(rows, **changes):
    """The same rows under a weak attack."""
    return [replace(row, **changes, num_correct=9300 if row.attack == "none" else 9000) for row in rows]


def test_noise_modes_form_separate_groups(make_sweep):
    rows = make_sweep(noise_mode="fixed") + weaken(make_sweep(), noise_mode="fresh")
    labels = [group.attack.rsplit(", ", 1)[1] for group in comparison_groups(rows)]
    assert labels == ["noise fixed", "noise fresh"]
    eot = make_sweep(noise_mode="eot", eot_draws=10) + make_sweep(noise_mode="eot", eot_draws=20)
    assert len(comparison_groups(eot)) == 2


def test_image_sets_form_separate_groups(make_sweep):
    rows = make_sweep() + make_sweep(n=60, run_id="b")
    assert sorted(group.attack.rsplit(", ", 1)[1] for group in comparison_groups(rows)) == ["n = 10000", "n = 60"]
    assert sorted(group.protocol.examples for group in comparison_groups(rows)) == [60, 10000]
    # Within one run as well.
    (one, other) = comparison_groups(make_sweep((0.0, 0.2)) + make_sweep((0.5, 1.0), n=60))
    assert {p.at.point.lam for p in one.points} != {p.at.point.lam for p in other.points}


def test_noiseless_networks_compare_in_every_mode(make_sweep):
    noisy = make_sweep(noise_mode="fixed") + make_sweep(noise_mode="fresh")
    groups = comparison_groups(noisy + make_sweep(run_id="z", method="pgd_at"))
    assert [len(group.lines) for group in groups] == [2, 2]
    assert all("noise" in group.attack for group in groups)


def test_the_worst_noise_decides_and_is_named(make_sweep):
    strong, weak = make_sweep(noise_mode="fixed"), weaken(make_sweep(), noise_mode="fresh")
    text = chosen_text(comparison_groups(strong + weak), sa=0.9, ra=0.45)
    assert "no point here" in text and "take" not in text
    assert "decided by" in text and "PGD-20" in text and text.endswith("noise fixed")


def test_the_worst_attack_decides_point_by_point(make_row, make_sweep):
    rows = make_sweep((0.5, 1.0))  # PGD: 37.4 % and 52 %
    rows += [make_row(lam=0.5, num_correct=3000, **APGD), make_row(lam=1.0, num_correct=6000, **APGD)]
    (weak,) = choose_points(comparison_groups(rows), Demand(ra=0.35))
    assert (weak.best.point.at.point.lam, weak.best.by_ra[:6], weak.meets) == (1.0, "PGD-20", True)
    (strong,) = choose_points(comparison_groups(rows), Demand(ra=0.2))
    assert (strong.best.point.at.point.lam, strong.best.by_ra[:6]) == (0.5, "APGD-T")


def test_transfer_never_decides_against_adaptive(make_row, make_sweep):
    rows = make_sweep()
    pgd = {key: getattr(rows[1], key) for key in ("attack", "norm", "epsilon", "step_size", "num_steps", "restarts")}
    for source in (0.0, 1.0):
        transfer = {"threat": "transfer", "attack_lam": source, "num_correct": 9000, "random_start": 1, **pgd}
        rows += [make_row(lam=lam, **transfer) for lam in (0.0, 0.2, 1.0) if lam != source]
    assert "no point here" in chosen_text(comparison_groups(rows), ra=0.6)
    (choice,) = choose_points(comparison_groups(rows), Demand(ra=0.5))
    assert (choice.best.point.at.point.lam, choice.best.point.ra.accuracy, choice.left_out) == (1.0, 0.52, 0)


def test_points_without_the_deciding_attack_are_left_out(make_row, make_sweep):
    rows = [*make_sweep((0.5, 1.0)), make_row(lam=0.5, num_correct=3000, **APGD), *make_sweep((1.0,), run_id="b")]
    (choice,) = choose_points(comparison_groups(rows), Demand(ra=0.45))
    assert (choice.best.point.at.point.lam, choice.meets, choice.left_out) == (0.5, False, 2)
    assert choice.missing == ["APGD-T-100 Linf eps=8/255 restarts=1 float32"]
    # An attack that decides at no point is not counted as missing.
    weaker = [row for row in rows if row.attack != "apgd-t"] + [make_row(lam=0.5, num_correct=6000, **APGD)]
    (choice,) = choose_points(comparison_groups(weaker), Demand(ra=0.45))
    assert (choice.meets, choice.left_out) == (True, 0)


def test_small_image_sets_do_not_override_large_ones(make_row, make_sweep):
    rows = [*make_sweep((1.0,)), make_row(lam=1.0, num_correct=50, num_examples=60, **APGD)]
    (choice,) = choose_points(comparison_groups(rows), Demand(ra=0.6))
    assert (choice.meets, choice.best.by_ra[:6]) == (False, "PGD-20")


def test_data_sets_are_chosen_apart(make_sweep):
    choices = choose_points(comparison_groups(make_sweep() + make_sweep(run_id="b", dataset="svhn")), Demand(ra=0.4))
    assert [choice.best.point.at.run_id for choice in choices] == ["b", "float-1a2b"]


def test_warnings_are_listed_by_point(make_sweep):
    rows = (
        make_sweep((0.0,)) + make_sweep((1.0,), warnings="flat-loss,stronger-transfer") + make_sweep((1.0,), run_id="b")
    )
    (group,) = comparison_groups(rows)
    assert [point.warnings for point in group.points] == [(), (), ("flat-loss", "stronger-transfer")]
    assert "warning at float-1a2b, lam 1: flat-loss, stronger-transfer; its RA may be too high" in comparison_text(
        group
    )
