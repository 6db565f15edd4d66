"""README's Python block and the pages about methods, models and data sets of your own run as written."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from support.doc_blocks import blocks
from support.processes import run

PAGES = ("own_method", "own_model", "own_dataset")


def python_blocks(page: str) -> list[str]:
    return [block.text for block in blocks("python") if block.page == page]


@pytest.fixture
def run_blocks(tmp_path: Path, digits_cache: Path) -> Callable[[list[str]], str]:
    """Runs blocks in one fresh process and returns its output. A block that begins `# NAME.py` becomes that file."""

    def run_all(code: list[str]) -> str:
        script = []
        for block in code:
            name = re.match(r"# (\w+\.py)\n", block)
            if name:
                (tmp_path / name[1]).write_text(block)
            else:
                script.append(block)
        (tmp_path / "script.py").write_text("\n".join(script))
        # As after `pip install .` on a machine without compilers; its decoders are compiled anew in every process.
        (tmp_path / "ffcv.py").write_text("raise ImportError('not installed')")
        # One thread: with more, a busy machine spends its time on waiting.
        environment = {**os.environ, "HOME": str(digits_cache), "OMP_NUM_THREADS": "1"}
        done = run([sys.executable, "script.py"], cwd=tmp_path, env=environment)
        assert done.status == 0, done.output
        return done.output

    return run_all


@pytest.mark.cluster
@pytest.mark.parametrize("page", PAGES)
def test_code_of_page_runs_as_written(page: str, run_blocks: Callable[[list[str]], str]) -> None:
    run_blocks(python_blocks(f"docs/{page}.md"))


@pytest.mark.cluster
def test_readme_block_runs_as_written(run_blocks: Callable[[list[str]], str]) -> None:
    first = python_blocks("README.md")[0]
    assert "distcond.train(" in first and len(first.splitlines()) <= 12
    run_blocks([first])
