"""Fits of a dial on the validation split, over the processes of a block pool: its map and its robust end."""

from __future__ import annotations

import logging

from distcond.evaluation.calibrate import ValCounts
from distcond.evaluation.plan import EvalPlan
from distcond.launch.block_pool import block_pool
from distcond.launch.evaluate_driver import choose_plan_workers
from distcond.results.series import Score
from distcond.runs.even_dial import EvenDial, fit_even_map
from distcond.runs.grid import positions
from distcond.runs.robust_end import RobustEnd, choose_lam, robust_lams

#: Scores by position of the dial, or by lam.
Scores = dict[float, Score]


def fit_even(plan: EvalPlan, even: str, fitted_on: str) -> tuple[EvenDial, Scores]:
    """The map along which the accuracy `even` changes in equal steps, and the scores it was fitted to.

    Args:
        plan: an evaluation of the validation split at one width.
        even: "ra" or "sa".
        fitted_on: images and attack, as text.

    Raises:
        ConfigError: RA does not rise, or SA does not fall, from end to end.
    """
    settings = plan.config.eval
    with block_pool(plan, choose_plan_workers(plan)) as count:
        counts = ValCounts(plan, count, logging.info)
        scores = {t: counts(even, t, plan.blocks) for t in sorted({0.0, *positions(plan.config), 1.0})}
    dial, t = fit_even_map(even, {at: score.accuracy for at, score in scores.items()})
    return EvenDial(settings.dial, even, settings.dial_lam, plan.weights, dial, t, fitted_on), scores


def choose_end(plan: EvalPlan, criterion: str, chosen_on: str) -> tuple[RobustEnd, Scores, Scores]:
    """The robust end of blends, and SA and RA of every lam that it was chosen from.

    Args:
        plan: an evaluation of the validation split at one width, with `eval.dial=switch`.
        criterion: one of `robust_end.CRITERIA`.
        chosen_on: images and attack, as text.

    Raises:
        ConfigError: the method has one path, or `eval.lam_grid` has no lam on its robust path.
    """
    lams = robust_lams(plan.config)
    with block_pool(plan, choose_plan_workers(plan)) as count:
        counts = ValCounts(plan, count, logging.info)
        sa, ra = ({lam: counts(name, lam, plan.blocks) for lam in lams} for name in ("sa", "ra"))
    by_sa, by_ra = ({lam: score.accuracy for lam, score in scores.items()} for scores in (sa, ra))
    texts = ({f"{lam:g}": accuracy for lam, accuracy in scores.items()} for scores in (by_sa, by_ra))
    lam = choose_lam(criterion, by_sa, by_ra)
    return RobustEnd(lam, plan.weights, criterion, chosen_on, *texts), sa, ra
