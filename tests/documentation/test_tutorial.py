"""The tutorial is carried out as written, on fewer images and epochs; then the Python of pages about a trained run."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

from support.doc_blocks import blocks, commands, distcond_call

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
    done = []
    for block in (block for block in blocks("sh", "python") if block.page == "docs/tutorial.md"):
        run = next((str(path) for path in Path("runs").glob("float-*")), "runs/RUN")
        text = block.text.replace("runs/RUN", run)
        if block.language == "python":
            exec(compile(text, block.name, "exec"), {})
            continue
        for call in filter(None, map(distcond_call, commands(text))):
            module, argv = call
            smaller = [
                *SMALLER.get(module, []),
                *([f"data.cache_dir={digits_cache}"] if module == "distcond.train" else []),
            ]
            assert import_module(module).main([*argv, *smaller]) == 0, f"{block.name}: {module} {argv}"
            done.append(module)
    for block in (block for block in blocks("python") if block.page in ("docs/dial.md", "docs/exporting.md")):
        exec(compile(block.text.replace("runs/RUN", run), block.name, "exec"), {})
    assert {"distcond.train", "distcond.evaluate", "distcond.report", "distcond.calibrate", "distcond.export"} <= {
        *done
    }
