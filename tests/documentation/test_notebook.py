"""The quick start notebook runs as committed, and shows progress as a notebook does."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

nbformat = pytest.importorskip("nbformat", reason="notebooks are read by nbformat")
nbclient = pytest.importorskip("nbclient", reason="notebooks are executed by nbclient")
pytest.importorskip("ipykernel", reason="notebooks need a kernel")

NOTEBOOK = Path(__file__).parents[2] / "docs" / "quickstart.ipynb"


@pytest.fixture
def execute(tmp_path: Path, digits_cache: Path) -> Callable[[Any], Any]:
    """Executes a notebook in an empty folder, with the cached digits, and returns it."""

    def run(notebook: Any) -> Any:
        # One thread: with more, a busy machine spends its time on waiting.
        environment = {**os.environ, "HOME": str(digits_cache), "OMP_NUM_THREADS": "1"}
        client = nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}})
        return client.execute(env=environment)

    return run


@pytest.mark.cluster
@pytest.mark.timeout(900)
def test_notebook_runs_as_committed(execute: Callable[[Any], Any]) -> None:
    notebook = execute(nbformat.read(NOTEBOOK, as_version=4))
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert notebook.cells[-2].outputs[-1]["data"]["text/plain"] == "(True, True)"


def test_notebook_is_committed_executed_and_small() -> None:
    cells = [cell for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not any(output.output_type == "error" for cell in cells for output in cell.outputs)
    assert NOTEBOOK.stat().st_size < 150_000


def test_progress_is_a_widget_in_notebooks(execute: Callable[[Any], Any]) -> None:
    pytest.importorskip("ipywidgets", reason="the widget is one of ipywidgets")
    code = "from distcond.tqdm_bar import make_bar\nbar = make_bar(total=3, desc='steps')\nbar.update(2)\nbar.close()"
    notebook = execute(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)]))
    shown = [output.data for output in notebook.cells[0].outputs if output.output_type == "display_data"]
    assert any("application/vnd.jupyter.widget-view+json" in data for data in shown)
