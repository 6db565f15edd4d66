"""The tutorial is carried out as written, on fewer images and epochs; then the Python of pages about a trained run."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

from support.doc_blocks import Block, blocks, commands, distcond_call

#: Added to the commands; later arguments override earlier ones. A smaller radius, since RA has to reach 30 % at once.
SMALLER = {
    "distcond.train": [
        "epochs=6", "eval.every=6", "eval.train_examples=0", "eval.test_examples=60", "eval.sentinel=off",
        "attack.epsilon=0.1", "attack.step_size=0.03", "eval.attack.epsilon=0.1", "eval.attack.step_size=0.02",
    ],
    "distcond.evaluate": ["eval.test_examples=10", "eval.sentinel=off"],
}  # fmt: skip


@pytest.mark.cluster
def test_tutorial_runs_as_written(tmp_path: Path, digits_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyautoattack")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(SMALLER, "distcond.train", [*SMALLER["distcond.train"], f"data.cache_dir={digits_cache}"])
    found = blocks("sh", "python")
    done = [module for block in found if block.page == "docs/tutorial.md" for module in _carry_out(block)]
    for block in (block for block in found if block.page in ("docs/dial.md", "docs/exporting.md")):
        if block.language == "python":
            _carry_out(block)
    assert {"train", "evaluate", "report", "calibrate", "export"} <= {module.rpartition(".")[2] for module in done}


def _carry_out(block: Block) -> list[str]:
    """Run a block with the trained run in place of runs/RUN; the modules of the commands that it ran."""
    run = next((str(path) for path in Path("runs").glob("float-*")), "runs/RUN")
    text = block.text.replace("runs/RUN", run)
    if block.language == "python":
        exec(compile(text, block.name, "exec"), {})
        return []
    calls = list(filter(None, map(distcond_call, commands(text))))
    for module, argv in calls:
        assert import_module(module).main([*argv, *SMALLER.get(module, [])]) == 0, f"{block.name}: {module} {argv}"
    return [module for module, _ in calls]
