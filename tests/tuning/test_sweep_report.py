"""The report of a sweep whose trials are computed, not trained: what it says, draws and leaves out."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest

from distcond.config.command_line import parse_args
from distcond.config.overrides import resolve
from distcond.errors import ConfigError
from distcond.results import trials
from distcond.tuning.options import read_options
from distcond.tuning.points import draw_points
from distcond.tuning.space import find_space
from distcond.tuning.sweep_dir import SweepDir
from distcond.tuning.sweep_report.commands import command
from distcond.tuning.sweep_report.front import best, front
from distcond.tuning.sweep_report.importance import importance
from distcond.tuning.sweep_report.read import read_sweep
from distcond.tuning.sweep_report.report import report
from distcond.tuning.sweep_report.words import confirmed
from support.processes import run
from support.stored_experiment import StoredExperiment


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen trials of noise_scale whose RA depends on alpha alone, and one that failed."""
    path = tmp_path_factory.mktemp("sweep")
    space, options = find_space("noise_scale", small=True), read_options({"scheduler": "asha", "trials": 17})
    SweepDir(path).begin(space, options)
    experiment = StoredExperiment(path / "experiment")
    for number, point in enumerate(draw_points(space, options)[:16]):
        epochs, rows = 8 if number % 2 else 1, []
        for epoch in range(1, epochs + 1):
            ra = 0.5 - 0.1 * abs(math.log(point["method.alpha"] / 0.2)) + 0.005 * epoch
            rows.append(
                {
                    "epoch": epoch,
                    "epochs": 8,
                    "hypervolume": ra,
                    "sa": 0.9 - number / 100,
                    "ra": ra,
                    "train_flops": 1e9 * epoch,
                    "seconds": 1.0 * epoch,
                    "run_dir": str(path / "runs" / f"r{number}"),
                }
            )
        experiment.add(point, "TERMINATED", rows)
    experiment.add({"method.alpha": 0.1}, "ERROR", [], error="Failure # 1\nTraceback\nValueError: </script>\n")
    experiment.store()
    return path


def test_every_trial_is_a_row_with_its_settings(sweep: Path) -> None:
    frame = trials(sweep)
    assert len(frame) == 17
    assert {"method.alpha", "hypervolume", "sa", "ra", "seconds", "train_flops", "state", "pareto"} <= set(
        frame.columns
    )
    assert frame["error"][16] == "ValueError: </script>"
    assert (frame["state"][frame["pareto"]] == "finished").all()


def test_it_is_read_without_ray_and_without_torch(sweep: Path) -> None:
    code = f"""
import sys
sys.modules["ray"] = sys.modules["torch"] = None
from distcond.results import trials
print(len(trials({str(sweep)!r})))
"""
    assert run([sys.executable, "-c", code]).output.strip() == "17"


def test_front_holds_exactly_the_unbeaten_trials(sweep: Path) -> None:
    read = read_sweep(sweep)
    inside = [(row["sa"], row["ra"], -row["train_flops"]) for row in front(read)]
    rest = [(r["sa"], r["ra"], -r["train_flops"]) for r in read.rows() if r["state"] == "finished"]
    for one in rest:
        beaten = any(other != one and all(a >= b for a, b in zip(other, one, strict=True)) for other in rest)
        assert beaten == (one not in inside)
    top = best(read)
    assert top is not None and top["hypervolume"] == max(
        r["hypervolume"] for r in read.rows() if r["state"] == "finished"
    )


def test_the_command_of_a_trial_is_its_config(sweep: Path) -> None:
    read = read_sweep(sweep)
    for number in (1, 3):
        words = command(read, number).removeprefix("python -m distcond.train ").replace("'", "").split()
        recipe, settings = parse_args(words)
        found = resolve(recipe, settings)
        drawn = read.trials[number].params
        assert recipe == "float_digits" and found.epochs == 8 and found.launch.workers == 1
        assert getattr(found.method, "alpha") == drawn["method.alpha"]  # noqa: B009  of this method's options
        assert list(found.optim.no_decay) == drawn["optim.no_decay"]


def test_what_mattered_is_found(sweep: Path) -> None:
    found = importance(read_sweep(sweep))
    assert found is not None and found.trials == 16
    means = dict(zip(found.names, found.means, strict=True))
    assert means["method.alpha"] > 5 * max(means["method.threshold"], means["optim.no_decay"])


def test_report_writes_table_figures_and_offline_page(sweep: Path) -> None:
    pytest.importorskip("plotly", reason="plotly comes with the extra html")
    said = report(sweep)
    assert "trial 16 failed: ValueError" in said and said.count("python -m distcond.train float_digits") == len(
        front(read_sweep(sweep))
    )
    assert "PGD-10 Linf eps=0.2" in said, "the attack behind the numbers is stated"
    folder = sweep / "report"
    assert {file.name for file in folder.iterdir()} == {
        "table.md", "pareto.png", "response.png", "learning.png", "importance.png", "page.html",
    }  # fmt: skip
    page = (folder / "page.html").read_text()
    assert page.count("</script>") == 2 and 'src="http' not in page
    figures = json.loads(page.split("for (const figure of ")[1].split(") {\n  const place")[0])
    assert len(figures) == 3 + 5, "one for each setting"
    colours = figures[0]["data"][0]["marker"]["line"]["color"]
    assert 0 < sum(colour != "#9A9A9A" for colour in colours) == len(front(read_sweep(sweep)))


def test_winner_is_called_better_only_once_confirmed(sweep: Path) -> None:
    read = read_sweep(sweep)
    assert "not better before python -m distcond.tune --confirm" in confirmed(read)
    told = {
        "winner": 3,
        "attack": "apgd-ce",
        "verdict": "not shown to be better: ...",
        "order_holds": False,
        "finalists": [1],
        "proxy": "Kendall's tau +0.33",
    }
    (sweep / "confirm.json").write_text(json.dumps(told))
    try:
        assert "trial 3 against the recipe on test under apgd-ce: not shown to be better" in confirmed(read)
        assert confirmed(read).endswith("; Kendall's tau +0.33")
    finally:
        (sweep / "confirm.json").unlink()


def test_the_command_reports_a_sweep(sweep: Path) -> None:
    from distcond.report import main

    assert main([str(sweep)]) == 0


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"sweep\.json"):
        read_sweep(tmp_path)
