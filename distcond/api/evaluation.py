"""`distcond.evaluate`: measure a run from Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distcond.api.errors import path_errors_as_config_errors
from distcond.api.frames import curve_frame
from distcond.api.run import Run, open_run
from distcond.errors import ConfigError
from distcond.evaluate import measure, plan_of, split_options
from distcond.results.labels import name_pairs
from distcond.runs.run_cache import fetch_run
from distcond.runs.run_dir import RunDir

if TYPE_CHECKING:
    import pandas


def evaluate(
    run: Run | str | Path,
    attack: str | Sequence[str] | None = None,
    *,
    dial: str | None = None,
    positions: Sequence[float] | None = None,
    examples: int | None = None,
    threat: str | Sequence[str] | None = None,
    noise: str | Sequence[str] | None = None,
    checkpoint: str | None = None,
    split: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> pandas.DataFrame:
    """Measure standard and robust accuracy of a run along its dial, as `python -m distcond.evaluate` does.

        distcond.evaluate(run, "autoattack", positions=[0, 0.5, 1], examples=500)

    Rows are added to the run's results, where `run.curve("autoattack")` finds them. Outcomes per example are stored, so
    an interrupted call resumes, and a repeated one only reads them.

    Args:
        run: a `Run`, or the path or URI of one.
        attack: one or several of `distcond.list_attacks()`; None = the run's own; "none" = standard accuracy alone.
        dial: what moves along the curve: "switch" (the papers' lam), "weights" or "outputs"; None = the run's dial.
        positions: on the dial, in [0, 1]; None = those of the run.
        examples: how many images of the split, stratified by class; None = as the run's config says.
        threat: "adaptive" (the attacker knows the operating point), "transfer", "worst", or several; None = adaptive.
        noise: of the weights: "fixed", "fresh", "eot", or several; None = fixed.
        checkpoint: "best", "last" or "last_raw"; None = best.
        split: "test" or "val"; None = test.
        settings: further settings by dotted path, such as `{"eval.attack.num_steps": 50, "eval.attack.epsilon": 8/255,
            "launch.workers": 4}`. Without `launch.workers`, one worker: this process. Several are processes of their
            own, so a script needs `if __name__ == "__main__":`. With `"launch": "ray"`, one per block of examples.

    Returns:
        A frame like that of `Run.curve`, with one line per attack and operating point.

    Raises:
        ConfigError: no run or no checkpoint there, an invalid option, or an attack that cannot move an image.
        LaunchFailed: the evaluation failed; the same call resumes it.
    """
    run = open_run(run)
    rule = dial or (settings or {}).get("eval.dial") or run.config.eval.dial
    grid = "eval.lam_grid" if rule == "switch" else "eval.dial_grid"
    named = {
        "attack": attack, "threat": threat, "noise": noise, "checkpoint": checkpoint, "split": split, "eval.dial": dial,
        grid: positions, f"eval.{split or 'test'}_examples": examples,
    }  # fmt: skip
    options = {name: value for name, value in named.items() if value is not None}
    twice = sorted(options.keys() & (settings or {}).keys())
    if twice:
        raise ConfigError(f"{twice[0]}: given as an argument and in settings; give it once")
    options |= settings or {}
    on_ray = "ray" in (options.get("launch"), options.get("launch.name"))
    own, changed = split_options(options if on_ray else {"launch.workers": 1, **options})
    with path_errors_as_config_errors():
        plan = plan_of(RunDir(fetch_run(run.place, checkpoints=True)), own, changed)
        return curve_frame(name_pairs(measure(plan, run.place), plan.run_path))
