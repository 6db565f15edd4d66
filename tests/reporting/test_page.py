"""The page in a real browser: its panels, its slider, and that it loads nothing else."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distcond.errors import ConfigError
from distcond.operating_point import OperatingPoint
from distcond.reporting.page import write_page
from distcond.reporting.per_class import ClassScoresKey, count_by_class
from distcond.results.comparison import comparison_groups
from distcond.results.cost import InferenceCost
from distcond.results.series import PointKey
from support.installed import needs
from support.processes import LIMIT

needs("plotly", "the page is drawn with plotly")

GRID = (0.0, 0.2, 1.0)
PGD = "PGD-20 Linf eps=8/255 step=2/255 restarts=1 float32"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")

# Moves the slider and records what the page shows, in the page's text, where --dump-dom finds it.
WATCH = """
<script>
const seen = [];
const note = (value) => seen.push(value);
window.addEventListener("error", (event) => note({ error: event.message }));
document.addEventListener("securitypolicyviolation", (event) => note({ refused: event.blockedURI }));
addEventListener("load", async () => {
  const pause = () => new Promise((done) => setTimeout(done, 100));
  const rings = (id) => (document.getElementById(id).data || [])
    .filter((trace) => trace.meta === "now").map((trace) => [trace.x[0], trace.y[0]]);
  const look = () => note({
    lam: document.getElementById("lam").textContent,
    rows: [...document.querySelectorAll("#readout tr")].map((row) => [...row.cells].map((cell) => cell.textContent)),
    trade: rings("trade"), over: rings("over"), cost: rings("cost"), classes: rings("classes"),
    shown: [...document.querySelectorAll(".panel")].filter((panel) => !panel.hidden),
    drawn: document.querySelectorAll(".main-svg").length, bars: document.querySelectorAll(".errorbar path").length,
    bands: document.querySelectorAll("#over .fills path, #over .js-fill").length,
    line: (document.getElementById("over").layout.shapes || []).map((shape) => shape.x0),
    wide: document.documentElement.scrollWidth <= innerWidth,
  });
  const slider = document.getElementById("slider");
  for (let index = 0; index <= Number(slider.max); index += 1) {
    slider.value = index;
    slider.dispatchEvent(new Event("input"));
    await pause();
    look();
  }
  document.getElementById("trade").emit("plotly_click", { points: [{ customdata: 0 }] });
  await pause();
  note({ clicked: document.getElementById("lam").textContent, slider: slider.value });
  if (GROUPS.length > 1) {
    const select = document.getElementById("group");
    select.value = "1";
    select.dispatchEvent(new Event("change"));
    await pause();
    note({ group: select.selectedOptions[0].text, lam: document.getElementById("lam").textContent });
  }
  const out = document.createElement("pre");
  out.id = "record";
  out.textContent = JSON.stringify(seen);
  document.body.append(out);
});
</script>
"""


@pytest.fixture(scope="session")
def browser() -> str:
    """A headless browser to run."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip("no browser: apt-get install --no-install-recommends chromium")
    return found


@pytest.fixture
def visit(browser: str, tmp_path: Path) -> Callable[[Path], list[Any]]:
    """`visit(page)`: move the slider through all positions and return what the page shows at each."""

    def visited(page: Path) -> list[Any]:
        watched = tmp_path / "watched.html"
        before, end, after = page.read_text(encoding="utf-8").rpartition("</body>")
        watched.write_text(before + WATCH + end + after, encoding="utf-8")
        command = [
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--window-size=1200,1400", f"--user-data-dir={tmp_path / 'profile'}",
            "--host-resolver-rules=MAP * ~NOTFOUND",
            "--virtual-time-budget=20000", "--dump-dom", watched.as_uri(),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)
        found = re.search(r'<pre id="record">(.*?)</pre>', done.stdout, re.DOTALL)
        assert found, done.stderr[-2000:]
        record: list[Any] = json.loads(html.unescape(found[1]))
        return record

    return visited


def test_slider_moves_the_point_in_every_panel(tmp_path, make_sweep, visit):
    rows = make_sweep(GRID, n=1000) + make_sweep((1.0,), n=1000, run_id="z", method="pgd_at", density=0.5)
    costs = {PointKey("float-1a2b", OperatingPoint(lam)): InferenceCost(8e6, 1) for lam in GRID} | {
        PointKey("z", OperatingPoint(1.0)): InferenceCost(4e6, 1)
    }
    labels = [number % 3 for number in range(1000)]
    groups = comparison_groups(rows, costs)
    classes = {
        ClassScoresKey(PGD, point.at, point.name): count_by_class(
            labels, [True] * 1000, [number <= i for number in labels]
        )
        for i, lam in enumerate(GRID)
        for point in groups[0].points
        if point.at == PointKey("float-1a2b", OperatingPoint(lam))
    }
    record = visit(write_page(groups, tmp_path / "page.html", classes=classes))
    assert not [entry for entry in record if "error" in entry or "refused" in entry]
    first, second, third, click = record
    assert [entry["lam"] for entry in record[:3]] == ["λ = 0", "λ = 0.2", "λ = 1"]
    assert [entry["trade"] for entry in record[:3]] == [[[2, 94.3]], [[24.4, 92.7]], [[52, 86.3], [52, 86.3]]]
    assert [entry["over"][:2] for entry in record[:3]] == [
        [[0, 94.3], [0, 2]],
        [[0.2, 92.7], [0.2, 24.4]],
        [[1, 86.3], [1, 52]],
    ]
    assert [entry["cost"] for entry in record[:2]] == [[[8e6, 94.3], [8e6, 2]], [[8e6, 92.7], [8e6, 24.4]]]
    assert [row[0] for row in third["cost"]] == [8e6, 8e6, 4e6, 4e6]
    assert [entry["line"] for entry in record[:3]] == [[0], [0.2], [1]]
    assert first["rows"][0][1:] == ["94.3 (92.7-95.6)", "2.0 (1.3-3.1)", "8.00e+6", "1.000", "1000"]
    assert first["rows"][1][1] == "not measured at this λ"
    assert third["rows"][1] == ["pgd_at *", "86.3 (84.0-88.3)", "52.0 (48.9-55.1)", "4.00e+6", "0.500", "1000"]
    assert [entry["classes"] for entry in record[:2]] == [[["0", 100], ["0", 100]]] * 2
    assert [len(entry["shown"]) for entry in record[:3]] == [4, 4, 4]
    assert second["bars"] > 10 and second["drawn"] >= 8 and second["wide"]
    assert click == {"clicked": "λ = 0", "slider": "0"}


def test_names_stay_in_place_and_empty_panels_hidden(tmp_path, make_row, make_sweep, visit):
    nasty = "@plotly@</script><script>note({error:'ran'})</script><!--"
    fgsm = {"attack": "fgsm", "norm": "Linf", "epsilon": 8 / 255}
    rows = [
        *make_sweep(GRID, run_id=nasty, dataset=nasty), *make_sweep(GRID, run_id="b", dataset=nasty),
        *(make_row(lam=0.2, num_correct=5000, run_id=name, dataset=nasty, **fgsm) for name in (nasty, "b")),
    ]  # fmt: skip
    record = visit(write_page(comparison_groups(rows), tmp_path / "page.html"))
    assert not [entry for entry in record if "error" in entry or "refused" in entry]
    assert [row[0] for row in record[0]["rows"]] == [f"{nasty} *", "b *"]
    assert [len(entry["shown"]) for entry in record if "shown" in entry] == [2] * (len(record) - 2)
    group = record[-1]
    assert "eps=8/255" in group["group"] and group["lam"] in ("λ = 0", "λ = 0.2")


def test_page_is_self_contained(tmp_path, make_sweep):
    path = write_page(comparison_groups(make_sweep()), tmp_path / "page.html")
    text = path.read_text(encoding="utf-8")
    assert 1e6 < len(text) < 8e6
    assert "default-src 'none'" in text
    assert not re.findall(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=", text)
    assert "@plotly@" not in text and "@data@" not in text
    data = json.loads(re.search(r"const GROUPS = (\[.*?\]);</script>", text, re.DOTALL)[1])
    assert data[0]["runs"][0]["points"][1]["sa"] == [92.71, 92.184, 93.203]
    assert data[0]["lams"] == [0.0, 0.2, 1.0]


def test_page_without_points_is_refused(tmp_path, make_row):
    with pytest.raises(ConfigError, match="no page"):
        write_page(comparison_groups([make_row()]), tmp_path / "page.html")


def test_a_missing_plotly_is_one_line(make_sweep, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly", None)
    monkeypatch.delitem(sys.modules, "plotly.offline", raising=False)
    with pytest.raises(ConfigError, match=r"^html=FILE.*plotly.*pip install"):
        write_page(comparison_groups(make_sweep()), tmp_path / "page.html")
    assert list(tmp_path.iterdir()) == []
