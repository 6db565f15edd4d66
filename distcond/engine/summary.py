"""What a finished run cost and how far its robustness held: one record beside the rows."""

from __future__ import annotations

from typing import Any

from distcond.engine.evaluate import Count
from distcond.engine.job import Job
from distcond.engine.masking import Place
from distcond.engine.validate import blend_of


def summary(job: Job, counts: dict[str, list[Count]]) -> dict[str, Any]:
    """Epochs, parameters, FLOPs and gaps of a run, as plain values.

    `sa` and `ra` are those of the best checkpoint on test. `train_flops` is integrated over the density the network
    had; `flops` is one image at one operating point. The gaps are differences of RA in [0, 1] under the attack of the
    final sweep (Rice et al. 2020; Sparsity Winning Twice, arXiv 2202.09844): robust overfitting = best - last, robust
    generalisation = training images - test, both at last.
    """
    found = {name: {(count.point, count.width): count for count in points} for name, points in counts.items()}
    return {
        "epochs": job.position.done,
        "parameters": sum(parameter.numel() for parameter in job.model.parameters()),
        "train_flops": job.train_flops,
        "points": [_point(at, found) for at in found["last"]],
    }


def _point(at: Place, found: dict[str, dict[Place, Count]]) -> dict[str, Any]:
    last, best, train = found["last"][at], found["best"][at], found.get("train", {}).get(at)
    return {
        "lam": at[0].lam,
        "width": at[1],
        **blend_of(at[0]),
        "sa": best.sa_correct / best.num_examples,
        "ra": _ra(best),
        "flops": last.cost.flops,
        "dense_flops": last.cost.dense_flops,
        "nonzeros": last.cost.nonzeros,
        "density": last.cost.density,
        "robust_overfitting_gap": _ra(best) - _ra(last),
        "robust_generalization_gap": None if train is None else _ra(train) - _ra(last),
    }


def _ra(count: Count) -> float:
    return count.ra_correct / count.num_examples
