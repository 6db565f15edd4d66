"""Whoever counts a user's own 1,003 images: one process or three, example by example the same outcomes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distcond.distributed.world import World
from distcond.errors import ConfigError
from distcond.evaluate import main, plan_evaluation
from distcond.evaluation import outcomes
from distcond.evaluation.plan import EvalPlan
from distcond.launch.block_pool import block_pool
from distcond.runs.run_dir import RunDir
from distcond.training.fit import fit

pytestmark = pytest.mark.cluster
NUMBER = 1003
WORDS = ["attack=pgd", "eval.batch_size=100"]


@pytest.fixture(scope="module")
def run_path(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a FLOAT run on digits that lie as one PNG file each, all but 1,003 of them to train on."""
    root = tmp_path_factory.mktemp("own")
    _write_digits(root / "images")
    config = tiny(
        "float",
        data="image_folder", data__root=str(root / "images"), data__cache_dir=str(root / "cache"),
        data__loader="memory", data__num_classes=10, data__image_size=8, epochs=6, batch_size=64,
        attack__num_steps=1, attack__step_size=0.05, attack__epsilon=0.05, eval__attack__epsilon=0.05,
        eval__attack__step_size=0.025, eval__attack__num_steps=2, eval__lam_grid="0,1", eval__every=0,
        eval__val_examples=20, eval__val_steps=1, eval__test_examples=20, eval__train_examples=0, optim__lr=0.05,
        precision__train="float32", launch="local",
    )  # fmt: skip
    with RunDir(root / "run").begin(config):
        fit(config, World(), root / "run")
    return root / "run"


def _write_digits(root: Path) -> None:
    datasets = pytest.importorskip("sklearn.datasets", reason="the digits come with scikit-learn")
    image = pytest.importorskip("PIL.Image", reason="image files are read by Pillow")
    values, labels = datasets.load_digits(return_X_y=True)
    for number, (grey, label) in enumerate(zip(values.reshape(-1, 8, 8) * (255 / 16), labels, strict=True)):
        folder = root / ("test" if number < NUMBER else "train") / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        image.fromarray(grey.astype(np.uint8)).convert("RGB").save(folder / f"{number}.png")


@pytest.fixture
def plan(run_path: Path, tmp_path: Path) -> Callable[..., EvalPlan]:
    """`plan(*words)`: of an evaluation on all 1,003 images, of which nothing is counted yet."""
    shutil.copytree(run_path, tmp_path / "run", ignore=shutil.ignore_patterns("outcomes"))
    return lambda *words: plan_evaluation([str(tmp_path / "run"), f"eval.test_examples={NUMBER}", *WORDS, *words])


def broken_by(plan: EvalPlan) -> dict[tuple[str, float], np.ndarray]:
    """What was kept of every example, by attack and lam: (1003,) each."""
    found = {}
    for measure in plan.cells():
        parts = [outcomes.read(plan.file(measure, block), plan.members(block)) for block in range(plan.blocks)]
        found[measure.attack.name if measure.attack else "none", measure.lam] = np.concatenate(
            [part.broken_by for part in parts]
        )
    return found


def counted(plan: EvalPlan, workers: int) -> dict[tuple[str, float], np.ndarray]:
    """`broken_by` after so many processes have counted everything anew."""
    shutil.rmtree(plan.run_path / "outcomes", ignore_errors=True)
    seen = set[int]()
    with block_pool(plan, workers) as count:
        count(plan, range(plan.blocks), lambda block: seen.add(len(active_children())))
    # Each is given a block before any has answered.
    assert max(seen) == (workers if workers > 1 else 0)
    return broken_by(plan)


def test_three_processes_agree_with_one(plan: Any) -> None:
    made = plan()
    assert (made.examples, made.blocks) == (NUMBER, 11)
    alone = counted(made, 1)
    assert {len(values) for values in alone.values()} == {NUMBER}
    assert {-1, 0, 1} == set(alone["pgd", 1.0].tolist())
    found = counted(made, 3)
    assert found.keys() == alone.keys()
    assert all(np.array_equal(found[measure], alone[measure]) for measure in alone)


def test_block_size_counts_every_image_once(plan: Any) -> None:
    alone = counted(plan(), 1)
    other = counted(plan("eval.batch_size=77"), 1)
    assert len(other["pgd", 1.0]) == NUMBER
    assert (other["pgd", 1.0] != alone["pgd", 1.0]).sum() <= 2, "rounding alone"


def test_empty_split_is_refused_when_first_read(run_path: Path, tmp_path: Path) -> None:
    # A split that was converted holds images, so an evaluation meets an empty one only in a root that is new to it.
    settings = RunDir(run_path).config().data
    shutil.copytree(Path(settings.root) / "train", tmp_path / "images" / "train")
    (tmp_path / "images" / "test").mkdir()
    with pytest.raises(ConfigError) as refusal:
        main([str(run_path), f"data.root={tmp_path / 'images'}", *WORDS])
    needed = "is empty; needed: a folder of images for every class"
    assert str(refusal.value) == f"data.root: {tmp_path / 'images' / 'test'} {needed}"
