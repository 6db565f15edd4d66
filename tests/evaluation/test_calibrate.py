"""Finding the lam that reaches a target: on curves whose truth is known, and on a run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distcond import calibrate, evaluate
from distcond.errors import ConfigError
from distcond.evaluation.calibrate import SLACK, CalibrationResult, Search, Target, monotonicity_violation
from distcond.results.series import Score
from distcond.results.store import read_rows

Curve = Callable[[float], float]
BLOCK, BLOCKS = 500, 10
HUNDREDTHS = [step / 100 for step in range(101)]
COARSE = (0.0, 0.2, 0.7, 1.0)


def rising(lam: float) -> float:
    return 0.05 + 0.4 * lam


def falling(lam: float) -> float:
    return 0.95 - 0.25 * lam


class Sample:
    """Examples that are right at lam where their own threshold is below the curve: nested, as on one set of images."""

    def __init__(self, seed: int, sa: Curve = falling, ra: Curve = rising) -> None:
        self.thresholds = np.random.default_rng(seed).random(BLOCK * BLOCKS)
        self.curves = {"sa": sa, "ra": ra}
        self.read: dict[tuple[str, float], int] = {}

    def __call__(self, name: str, lam: float, blocks: int) -> Score:
        size = min(blocks, BLOCKS) * BLOCK
        self.read[name, lam] = max(self.read.get((name, lam), 0), size)
        return Score(int((self.thresholds[:size] < self.curves[name](lam)).sum()), size, 1)

    def spent(self, name: str) -> int:
        return sum(size for (kind, _), size in self.read.items() if kind == name)


def search(sample: Sample, target: Target, lams: list[float] = HUNDREDTHS, coarse: Any = COARSE) -> CalibrationResult:
    return Search(sample, BLOCKS, BLOCK * BLOCKS, lams, coarse, target).run()


@pytest.mark.parametrize("target", [Target("ra", 0.25), Target("sa", 0.8), Target("ra", 0.4, 0.99)])
def test_calibration_rarely_misses_the_best_lam(target):
    """What all examples show is exact; whether the truth holds too is right as often as was asked."""
    curve = rising if target.name == "ra" else falling
    kept, spent = [], []
    for seed in range(200):
        sample = Sample(seed)
        found = search(sample, target)
        score = found.ra if target.name == "ra" else found.sa
        assert found.reached and found.sure >= target.confidence
        assert found.sa.num_examples == found.ra.num_examples == BLOCK * BLOCKS
        assert score.accuracy - target.needed(BLOCK * BLOCKS) < SLACK + 0.01
        kept.append(curve(found.lam) >= target.level)
        spent.append(sample.spent(target.name))
    assert np.mean(kept) >= target.confidence - 2 * (target.confidence * (1 - target.confidence) / 200) ** 0.5
    # Each lam of the coarse grid in full would take 20,000, every lam 505,000.
    assert np.median(spent) < 25_000


def test_jump_is_found_by_halving():
    sample = Sample(0, ra=lambda lam: 0.1 if lam < 0.5 else 0.6)
    found = search(sample, Target("ra", 0.3))
    assert found.lam == 0.5
    # One block each, but the answer and what follows it: the jump is found by halving.
    assert sum(size > BLOCK for (name, _), size in sample.read.items() if name == "ra") == 1
    assert len({lam for name, lam in sample.read if name == "ra"}) < 12


def test_a_jump_right_after_zero():
    sample = Sample(0, ra=lambda lam: 0.32 * (lam > 0))
    found = search(sample, Target("ra", 0.29), [step / 1000 for step in range(1001)])
    assert (found.lam, found.reached) == (0.001, True)
    # Straight lines alone would creep: 14 of 200 places at a time.
    assert len(sample.read) < 25


def test_answer_is_counted_on_all_examples():
    """The first block is easy: there, half of its RA would do."""
    sample = Sample(0)
    sample.thresholds[:BLOCK] *= 0.2
    found = search(sample, Target("ra", 0.25))
    assert found.reached and found.sure >= 0.9
    assert found.ra.num_examples == BLOCK * BLOCKS
    assert 0.25 < found.ra.accuracy < 0.28


def test_needed_accuracy_gives_the_asked_confidence():
    target = Target("ra", 0.25, 0.9)
    assert target.sure(Score(target.needed(2000) * 2000, 2000, 1)) == pytest.approx(0.9)


def test_target_reached_at_coarse_grid_stops_there():
    sample = Sample(0)
    assert search(sample, Target("sa", 0.5)).lam == 1.0
    assert search(Sample(0), Target("ra", 0.02)).lam == 0.0
    assert {lam for _, lam in sample.read} == set(COARSE)
    assert sample.spent("sa") == BLOCK * (len(COARSE) - 1 + BLOCKS)


def test_ra_that_falls_again_is_no_obstacle():
    """RA is highest at 0.2: there the target is met, at 0 and at 1 it is not."""

    def hump(lam: float) -> float:
        return 0.3 - abs(lam - 0.2) / 2

    sample = Sample(0, ra=hump)
    found = search(sample, Target("ra", 0.27))
    assert found.reached
    assert 0.14 <= found.lam <= 0.2
    # For an SA that every lam reaches, the lam with the highest RA.
    assert search(Sample(0, ra=hump), Target("sa", 0.6)).lam == 0.2


@pytest.mark.parametrize(("target", "lam"), [(Target("ra", 0.6), 1.0), (Target("sa", 0.97), 0.0)])
def test_unreached_target_reports_the_best_lam(target, lam):
    found = search(Sample(0), target)
    assert (found.lam, found.reached) == (lam, False)
    assert found.sure < 0.01


def test_uncertain_target_is_not_reached():
    """45 % of 5000 were seen: that is as likely below 45 % as above."""
    found = search(Sample(1), Target("ra", 0.45))
    assert not found.reached
    assert 0.01 < found.sure < 0.9


def test_only_places_that_exist_are_looked_at():
    codes = [0.0, 0.1, 0.3, 1.0]
    sample = Sample(0)
    assert search(sample, Target("ra", 0.15), codes, codes).lam == 0.3
    assert {lam for _, lam in sample.read} <= set(codes)
    assert search(Sample(0), Target("ra", 0.15), [1.0], [1.0]).lam == 1.0


def test_a_curve_monotonicity_violation_is_noticed():
    held = {("ra", 0.2): (1, Score(300, 1000, 1)), ("ra", 0.0): (1, Score(0, 1000, 1))}
    assert monotonicity_violation("ra", held) is None
    held["ra", 1.0] = 1, Score(290, 1000, 1)
    assert monotonicity_violation("ra", held) is None
    held["ra", 0.7] = 1, Score(200, 1000, 1)
    assert monotonicity_violation("ra", held) == (0.2, 0.7)
    assert monotonicity_violation("sa", {("sa", lam): score for (_, lam), score in held.items()}) == (0.0, 0.2)


WORDS = ("eval.val_examples=180", "eval.batch_size=20", "eval.lam_grid=0,0.4,1", "launch.workers=1")


@pytest.fixture(scope="module")
def run(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one's own: calibration keeps what it counts."""
    return Path(shutil.copytree(trained, tmp_path_factory.mktemp("runs") / trained.name))


def said(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    capsys.readouterr()
    assert calibrate.main([str(words[0]), *WORDS, *map(str, words[1:])]) == 0
    return capsys.readouterr().out


def test_the_answer_is_that_of_an_evaluation(run, capsys):
    first = said(capsys, run, "ra=5%", "confidence=0.6")
    lam = float(first.split("lam = ")[1].split(":")[0])
    assert "SA" in first and "n = 180 validation images under PGD-2 Linf eps=0.1 step=0.05 float32" in first
    assert "attacked 0 images" not in first
    assert "attacked 0 images" in said(capsys, run, "ra=5%", "confidence=0.6")
    evaluate.main([str(run), "split=val", *WORDS[:2], f"eval.lam_grid={lam}"])
    (row,) = [r for r in read_rows(run) if (r.split, r.attack, r.lam, r.num_steps) == ("val", "pgd", lam, 2)]
    assert f"RA {100 * row.num_correct / row.num_examples:.1f} %" in first
    settings = [json.loads(file.read_text()) for file in (run / "outcomes").glob("*/settings.json")]
    assert {found["split"] for found in settings if found["block_size"] == 20} == {"val"}


@pytest.mark.cluster
def test_two_workers_calibrate_as_one(run, trained, tmp_path, capsys):
    # A directory of the same name, since tables name the run.
    other = Path(shutil.copytree(trained, tmp_path / run.name, ignore=shutil.ignore_patterns("outcomes")))
    words = ("ra=5%", "confidence=0.6")
    expected = said(capsys, run, *words).splitlines()[0]
    assert said(capsys, other, *words, "launch.workers=2").splitlines()[0] == expected
    assert not list(other.glob("outcomes/sentinel*"))


def test_sa_target_attacks_few_lams(run, capsys):
    assert "SA >= 5 % holds with more than 99 %" in said(capsys, run, "sa>=0.05", "resolution=0.5")


def test_unreachable_target_names_the_reachable(run):
    with pytest.raises(ConfigError, match=r"^ra=0.999: .*90 %.*up to 0\.\d+$"):
        calibrate.main([str(run), "ra=0.999", *WORDS])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sa=0.5", "ra=0.5"], "2 targets"),
        ([], "0 targets"),
        (["ra=1"], "ra=1: .*less than 1"),
        (["ra=25"], "ra=25: .*30%"),
        (["ra=0.2", "split=test"], "split=test.*val"),
        (["ra=0.2", "attack=none"], "attack=none: .*one"),
        (["ra=0.2", "attack=pgd,cw"], "attack=pgd,cw: .*one"),
        (["ra=0.2", "confidence=1"], "confidence=1: .*less than 1"),
        (["ra=0.2", "width=0.5"], "width=0.5: .*1"),
        (["ra=0.2", "threat=worst"], "'threat'"),
    ],
)
def test_words_that_cannot_be(run, words, message):
    with pytest.raises(ConfigError, match=message):
        calibrate.main([str(run), *words])


@pytest.mark.parametrize(
    ("method", "places"),
    [("oat", {0.0, 0.1, 0.2, 0.3, 0.4, 1.0}), ("smart", {0.0, 1.0}), ("pgd_at", {0.4}), ("float", set(HUNDREDTHS))],
)
def test_where_a_method_can_stand(tiny, method, places):
    from distcond.evaluation.calibrate import candidate_lams
    from distcond.runs.build import build_model

    settings = {"sampler__lam": 0.4} if method == "pgd_at" else {}
    config = tiny(method, **settings)
    assert set(candidate_lams(config, build_model(config).encode, 0.01)) == places
