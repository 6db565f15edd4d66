"""drop_last=false: the smaller last batch of an epoch is trained on, too."""

from __future__ import annotations

from typing import Any

import pytest

from distcond.errors import ConfigError
from distcond.results import history
from distcond.training.build_trainer import check_trainable
from distcond.training.flops import train_flops


def test_last_batch_is_trained_on(small: Any, whole: Any) -> None:
    paths = {drop: whole(small("float", epochs=1, drop_last=drop, eval__train_examples=0)) for drop in (True, False)}
    # 100 images in batches of 32: the last one has 2 clean and 2 attacked rows.
    records = {drop: history.read(path)[0] for drop, path in paths.items()}
    assert (records[True]["step"], records[False]["step"]) == (3, 4)
    assert records[False]["train_flops"] == pytest.approx(records[True]["train_flops"] * 100 / 96)
    assert records[False]["train_loss"] != records[True]["train_loss"]


def test_two_ranks_share_the_last_batch(small: Any, tmp_path: Any, run_ranks: Any, whole: Any) -> None:
    config = small("pgd_at", epochs=1, drop_last=False, shared_statistics=True, eval__train_examples=0)
    run_ranks(train_on_rank, 2, config, tmp_path / "two")
    together, alone = (history.read(path)[0] for path in (tmp_path / "two", whole(config)))
    assert together["train_loss"] == pytest.approx(alone["train_loss"], rel=1e-3)
    assert together["step"] == 4


def train_on_rank(rank: int, world: int, config: Any, path: Any) -> None:
    from distcond.distributed.world import World
    from distcond.runs.run_dir import RunDir
    from distcond.training.fit import fit

    if rank == 0:
        with RunDir(path).begin(config):
            fit(config, World(), path)
    else:
        fit(config, World(), path)


def test_flops_count_the_last_batch(tiny: Any) -> None:
    costs = [train_flops(tiny(train_examples=100, batch_size=32, drop_last=drop)) for drop in (True, False)]
    assert costs[1] == pytest.approx(costs[0] * 100 / 96)


@pytest.mark.parametrize(
    ("images", "workers", "method"), [(97, 1, "pgd_at"), (98, 1, "float"), (98, 2, "pgd_at"), (100, 2, "float")]
)
def test_too_small_last_batch_is_refused(images: int, workers: int, method: str, tiny: Any) -> None:
    config = tiny(method, batch_size=32, drop_last=False)
    with pytest.raises(ConfigError, match=rf"^drop_last=false: the last batch of an epoch has {images % 32} of"):
        check_trainable(config, images, workers)
    check_trainable(tiny(method, batch_size=32), images, workers)
    check_trainable(config, 104, workers)
