"""Find the lam that reaches a target: `python -m distcond.calibrate RUN_DIR ra=LEVEL|sa=LEVEL|even=ra|end=ra [...]`.

    python -m distcond.calibrate runs/float-... ra=0.25                  RA at least 25 %, and the highest SA with that
    python -m distcond.calibrate runs/float-... sa=80% attack=apgd-ce    SA at least 80 %, and the highest RA with that
    python -m distcond.calibrate runs/float-... ra=0.4 eval.dial=weights    a position of the dial (docs/dial.md)
    python -m distcond.calibrate runs/float-... even=ra                  make that dial even: RA rises in equal steps
    python -m distcond.calibrate runs/float-... end=ra                   which lam is the best robust end of a blend
    python -m distcond.calibrate runs/oats-... ra=0.3 width=0.5 confidence=0.95 eval.val_examples=2000

Uses the validation split only, evaluates few lam, and stops at a lam as soon as enough examples show on which side of
the target it is; the result is measured on all examples. "Holds with 93 %" refers to images like these under this
attack; a stronger attack lowers RA. Outcomes are stored, so the same command again only reads them.

even= evaluates the positions of eval.dial_grid, fits the map from dial to t and stores it in RUN_DIR/results with the
digest of the weights; evaluate and calibrate use it with eval.dial_even=ra. Without eval.dial, weights are blended.

end= evaluates the robust lam of eval.lam_grid and stores the one with the highest RA (end=mean: mean of SA and RA);
evaluate and calibrate use it with eval.dial_lam=0.

  confidence=0.9     confidence with which the target has to hold at the chosen lam
  resolution=0.01    distance between candidate lam, if the network supports any lam
  width=1            multiplier of the width, for networks with several widths
  attack=NAME        the attack for RA, with the settings of eval.attack; see python -m distcond.evaluate --help;
                     default: eval.attack_name of the run
  noise=fixed        weight noise: fixed, fresh or eot; eot_draws=10
  checkpoint=best    best, last or last_raw

and any eval.*, data.*, launch.workers (processes of this machine) or launch.device setting of the run. The search
starts with eval.lam_grid.
"""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Sequence
from statistics import NormalDist

from distcond.config.command_line import overridden_settings, run_cli
from distcond.config.fields import check_bounds, check_choice, parse_value
from distcond.config.overrides import apply_overrides, check_dial
from distcond.config.schema import Config
from distcond.errors import ConfigError
from distcond.evaluation.calibrate import (
    CalibrationResult,
    Search,
    Target,
    ValCounts,
    candidate_lams,
    monotonicity_violation,
)
from distcond.evaluation.make_plan import make_plan
from distcond.evaluation.plan import EvalPlan
from distcond.evaluation.spec import attack_settings, read_spec
from distcond.launch.block_pool import block_pool
from distcond.launch.evaluate_driver import choose_plan_workers
from distcond.launch.fit_dial import choose_end, fit_even
from distcond.models.conditional import ConditionalModel
from distcond.operating_point import BLENDS
from distcond.registry import describe_unknown
from distcond.reporting.terminal import format_score
from distcond.results.interval import wilson
from distcond.results.labels import attack_label, format_confidence
from distcond.results.row import Attack
from distcond.results.selection import parse_accuracy
from distcond.runs.code_trust import take_trust
from distcond.runs.even_dial import even_dial_file, write_even_dial
from distcond.runs.grid import point_at, positions
from distcond.runs.load_run import load
from distcond.runs.pair_record import check_pair_checkpoint
from distcond.runs.robust_end import CRITERIA, robust_end_file, robust_lams, write_robust_end
from distcond.runs.run_cache import fetch_run, push_back
from distcond.runs.run_dir import RunDir

_OPTIONS = ("sa", "ra", "even", "end", "confidence", "resolution", "width")
_SPEC = ("attack", "noise", "eot_draws", "checkpoint", "split")
_LAUNCH = ("launch.device", "launch.workers", "launch.cpus_per_worker")
_CHANGEABLE = ("eval.", "data.root", "data.loader", "data.cache_dir", "data.threads", *_LAUNCH)


def main(argv: Sequence[str]) -> int:
    """Calibrate, or fit the map of a dial; returns the exit status."""
    if not argv or set(argv) & {"--help", "-h"}:
        print(__doc__)
        return 0
    argv = take_trust(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    options = _parse_options(argv[1:])
    even, end = parse_even(options), parse_end(options)
    target = None if even or end else parse_target(options)
    plan = plan_calibration(argv[0], options)
    try:
        if end:
            return _choose_end(plan, end, options)
        return _fit_even(plan, even, options) if target is None else _search(plan, target, options)
    finally:
        push_back(argv[0])


def _at_width(plan: EvalPlan, model: ConditionalModel, options: dict[str, str]) -> EvalPlan:
    return plan.at_width(model.width_mults[model.width_index(_number(options, "width", 1.0, gt=0))])


def _fit_even(plan: EvalPlan, even: str, options: dict[str, str]) -> int:
    """Fit the map of the dial, store and print it."""
    settings = plan.config.eval
    plan = _at_width(plan, load(plan.run_path, plan.spec.checkpoint), options)
    fit, scores = fit_even(plan, even, _images(plan))
    path = even_dial_file(plan.run_path, settings, even, plan.spec.checkpoint)
    write_even_dial(path, fit)
    for t, score in scores.items():
        print(f"t = {t:.3g}: {even.upper()} {format_score(score)}")
    print("dial to t: " + ", ".join(f"{dial / 10:g} -> {fit(dial / 10):.3g}" for dial in range(11)))
    print(f"fitted on {fit.fitted_on}\n{path}\nuse it: eval.dial={settings.dial} eval.dial_even={even}")
    return 0


def _choose_end(plan: EvalPlan, criterion: str, options: dict[str, str]) -> int:
    """Choose the lam of a blend's robust end, store and print it."""
    robust_lams(plan.config)  # refused before the network is loaded
    plan = _at_width(plan, load(plan.run_path, plan.spec.checkpoint), options)
    end, sa, ra = choose_end(plan, criterion, _images(plan))
    path = robust_end_file(plan.run_path, plan.spec.checkpoint)
    write_robust_end(path, end)
    for lam in sa:
        chosen = "  <- chosen" if lam == end.lam else ""
        print(f"lam = {lam:.3g}: SA {format_score(sa[lam])}, RA {format_score(ra[lam])}{chosen}")
    print(f"chosen by {criterion} on {end.chosen_on}\n{path}\nuse it: eval.dial=weights eval.dial_lam=0")
    return 0


def _search(plan: EvalPlan, target: Target, options: dict[str, str]) -> int:
    model = load(plan.run_path, plan.spec.checkpoint)
    plan = _at_width(plan, model, options)
    lams = candidate_lams(plan.config, model.encode, _number(options, "resolution", 0.01, gt=0, le=1))
    with block_pool(plan, choose_plan_workers(plan)) as count:
        counts = ValCounts(plan, count, logging.info)
        search = Search(counts, plan.blocks, plan.examples, lams, positions(plan.config), target)
        result = search.run()
    if not result.reached:
        raise ConfigError(_describe_failure(plan, target, result))
    print(_describe_result(plan, target, result))
    axis = _axis(plan)
    for name in ("ra", "sa"):
        pair = monotonicity_violation(name, search.held)
        if pair:
            trend = "falls" if name == "ra" else "rises"
            interval = f"from {axis} {pair[0]:.3g} to {pair[1]:.3g}"
            print(f"note: {name.upper()} {trend} {interval}; there may be a better {axis}")
    evaluated = len({lam for _, lam in search.held})
    print(f"evaluated {evaluated} of {len(lams)} {axis}, attacked {counts.attacked:,} images")
    return 0


def parse_even(options: dict[str, str]) -> str:
    """The accuracy that a dial is to change in equal steps, "sa" or "ra"; "" without `even=`.

    Raises:
        ConfigError: another value, or together with a target, its options or an existing map.
    """
    if "even" not in options:
        return ""
    check_choice("even", options["even"], ("ra", "sa"))
    extra = [name for name in ("sa", "ra", "eval.dial_even", "confidence", "resolution") if name in options]
    if extra:
        raise ConfigError(f"even={options['even']} {extra[0]}={options[extra[0]]}: one at a time; leave {extra[0]} out")
    return options["even"]


def parse_end(options: dict[str, str]) -> str:
    """What the robust end is chosen by, "ra" or "mean"; "" without `end=`.

    Raises:
        ConfigError: another value, or together with a target, its options, `even=` or a blend.
    """
    if "end" not in options:
        return ""
    check_choice("end", options["end"], CRITERIA)
    extra = [name for name in ("sa", "ra", "even", "eval.dial_lam", "confidence", "resolution") if name in options]
    if extra:
        raise ConfigError(f"end={options['end']} {extra[0]}={options[extra[0]]}: one at a time; leave {extra[0]} out")
    if options.get("eval.dial", "switch") != "switch":
        raise ConfigError(f"eval.dial={options['eval.dial']}: end= compares single lam; valid: eval.dial=switch")
    return options["end"]


def parse_target(options: dict[str, str]) -> Target:
    """The target: which accuracy, its level and the confidence.

    Raises:
        ConfigError: no or two targets, or a level or confidence out of range.
    """
    named = [name for name in ("sa", "ra") if name in options]
    if len(named) != 1:
        raise ConfigError(f"{len(named)} targets: give one of sa=LEVEL and ra=LEVEL, such as ra=0.25")
    level = parse_accuracy(named[0], options[named[0]])
    if not 0 < level < 1:
        raise ConfigError(f"{named[0]}={options[named[0]]}: must be more than 0 and less than 1")
    return Target(named[0], level, _number(options, "confidence", 0.9, ge=0.5, lt=1))


def plan_calibration(place: str, options: dict[str, str]) -> EvalPlan:
    """The evaluation of the validation split, of the run at a path or URI.

    Raises:
        ConfigError: no run, another split, or more than one attack or noise mode.
    """
    spec = read_spec({"split": "val", **{name: options[name] for name in _SPEC if name in options}})
    if spec.split != "val":
        raise ConfigError(f"split={spec.split}: calibration uses the validation split only; valid: val")
    for name in ("attack", "noise"):
        if name in options and (len(getattr(spec, name)) != 1 or getattr(spec, name) == ("none",)):
            raise ConfigError(f"{name}={options[name]}: calibration needs exactly one")
    settings = {path: value for path, value in options.items() if path.startswith(_CHANGEABLE)}
    run = RunDir(fetch_run(place, checkpoints=True))
    own = run.config()
    if own.method.name == "pair":
        check_pair_checkpoint(run, options.get("checkpoint", ""))
    if "even" in options:
        blend = "weights" if own.eval.dial == "switch" else own.eval.dial
        settings = {"eval.dial": blend, **settings}
        if settings["eval.dial"] == "switch":
            raise ConfigError(f"eval.dial=switch: there is no map to fit; valid: {', '.join(BLENDS[1:])}")
    if "end" in options:
        settings = {"eval.dial": "switch", **settings}
    config = apply_overrides(own, {"launch": "local", "launch.workers": "0", **settings})
    check_dial(config, settings)
    return make_plan(run, config, spec, attack_settings(settings), mixed=True)


def _parse_options(argv: Sequence[str]) -> dict[str, str]:
    options = dict[str, str]()
    for arg in argv:
        path, _, value = arg.partition("=")
        path = path.removesuffix(">")
        if path not in (*_OPTIONS, *_SPEC) and not path.startswith(_CHANGEABLE):
            raise ConfigError(describe_unknown("setting of a calibration", path, [*_OPTIONS, *_SPEC, *_CHANGEABLE]))
        options[path] = value
    for path, value in overridden_settings([arg.replace(">=", "=", 1) for arg in argv]):
        _check({path: value})
    return options


def _check(option: dict[str, str]) -> None:
    """Check one option that a later argument overrides."""
    (name,) = option
    if name in ("sa", "ra"):
        parse_target(option)
    elif name == "even":
        parse_even(option)
    elif name == "end":
        parse_end(option)
    elif name in _OPTIONS:
        bounds = {"confidence": {"ge": 0.5, "lt": 1.0}, "resolution": {"gt": 0.0, "le": 1.0}, "width": {"gt": 0.0}}
        _number(option, name, 0.0, **bounds[name])
    elif name in _SPEC:
        read_spec({"split": "val", **option})
    else:
        apply_overrides(Config(), option)


def _number(options: dict[str, str], name: str, default: float, **bounds: float) -> float:
    value: float = parse_value(name, options.get(name, default), float)
    check_bounds(name, value, bounds)
    return value


def _describe_result(plan: EvalPlan, target: Target, result: CalibrationResult) -> str:
    level = f"{target.name.upper()} >= {100 * target.level:g} %"
    where = f"n = {result.sa.num_examples} validation images under {_attack(plan)}"
    return (
        f"{_position(plan, result)}: RA {format_score(result.ra)}, SA {format_score(result.sa)} on {where}, "
        f"so {level} holds with {format_confidence(result.sure)}"
    )


def _axis(plan: EvalPlan) -> str:
    return "lam" if plan.config.eval.dial == "switch" else "dial"


def _position(plan: EvalPlan, result: CalibrationResult) -> str:
    """The calibrated lam, or the position of the dial with the blend there."""
    if plan.config.eval.dial == "switch":
        return f"lam = {result.lam:.6g}"
    return f"dial = {result.lam:.6g} ({point_at(plan.config, result.lam, plan.even)})"


def _images(plan: EvalPlan) -> str:
    """Images, attack and width of a fit."""
    return f"{plan.examples} validation images under {_attack(plan)}, width {plan.points[0].width:g}"


def _attack(plan: EvalPlan) -> str:
    (attack,) = plan.attacks
    used = plan.strengths[attack.name]
    numbers = used.epsilon, used.step_size, used.num_steps, 0, "float32", int(used.random_start)
    named = Attack(attack.name, used.norm, *numbers)
    return attack_label(named)


def _describe_failure(plan: EvalPlan, target: Target, result: CalibrationResult) -> str:
    score = result.sa if target.name == "sa" else result.ra
    bound = wilson(score.num_correct, score.num_examples, NormalDist().inv_cdf(target.confidence)).low
    best = f"the best {_axis(plan)} found is {result.lam:.6g} with {target.name.upper()} {format_score(score)}"
    missed = f"{target.name}={target.level:g}: not reached with {100 * target.confidence:g} % confidence"
    return f"{missed}; {best}; valid: up to {math.floor(1000 * bound) / 1000:g}"


if __name__ == "__main__":
    run_cli(lambda: main(sys.argv[1:]))
