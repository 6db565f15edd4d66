"""Find the lam that reaches a target: `python -m distcond.calibrate RUN_DIR ra=LEVEL|sa=LEVEL|even=ra|even=sa [...]`.

    python -m distcond.calibrate runs/float-... ra=0.25                  RA at least 25 %, SA as high as that leaves it
    python -m distcond.calibrate runs/float-... sa=80% attack=apgd-ce    SA at least 80 %, RA as high as that leaves it
    python -m distcond.calibrate runs/float-... ra=0.4 eval.dial=weights    a position of the dial (docs/dial.md)
    python -m distcond.calibrate runs/float-... even=ra                  make that dial even: RA rises in equal steps
    python -m distcond.calibrate runs/oats-... ra=0.3 width=0.5 confidence=0.95 eval.val_examples=2000

Looks at the validation split only, at few lam, and at no more examples than it takes to tell on which side of the
target a lam lies; the answer is counted on all of them. "Holds with 93 %" is about images like these under this
attack; a stronger attack lowers RA. What was counted is kept: the same command again only reads it.

even= looks at the positions of eval.dial_grid, fits the map from dial to t and keeps it in RUN_DIR/results with the
digest of the weights; evaluate and calibrate use it with eval.dial_even=ra. Without eval.dial, weights are blended.

  confidence=0.9     how surely the target has to hold at the lam that is named
  resolution=0.01    distance between the lam that are considered, where the network can stand anywhere
  width=1            multiplier of the width, for networks with several
  attack=NAME        the attack behind RA, as eval.attack says; one of those of python -m distcond.evaluate --help;
                     unset = eval.attack_name of the run
  noise=fixed        of weight noise: fixed, fresh or eot; eot_draws=10
  checkpoint=best    best, last or last_raw

and any eval.*, data.*, launch.workers (processes of this machine) or launch.device setting of the run. eval.lam_grid is
where the search begins.
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
from distcond.models.conditional import ConditionalModel
from distcond.operating_point import BLENDS
from distcond.registry import describe_unknown
from distcond.reporting.terminal import format_score
from distcond.results.interval import wilson
from distcond.results.labels import attack_label, format_confidence
from distcond.results.row import Attack
from distcond.results.selection import parse_accuracy
from distcond.runs.even_dial import EvenDial, file_of, fitted, keep
from distcond.runs.grid import place_at, positions
from distcond.runs.load_run import load
from distcond.runs.pair_record import check_pair_checkpoint
from distcond.runs.run_cache import fetch_run, push_back
from distcond.runs.run_dir import RunDir

_OWN = ("sa", "ra", "even", "confidence", "resolution", "width")
_SPEC = ("attack", "noise", "eot_draws", "checkpoint", "split")
_LAUNCH = ("launch.device", "launch.workers", "launch.cpus_per_worker")
_OPEN = ("eval.", "data.root", "data.loader", "data.cache_dir", "data.threads", *_LAUNCH)


def main(argv: Sequence[str]) -> int:
    """Search and say what was found."""
    if not argv or set(argv) & {"--help", "-h"}:
        print(__doc__)
        return 0
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    words = _words(argv[1:])
    even, target = even_of(words), None if "even" in words else target_of(words)
    plan = plan_of(argv[0], words)
    try:
        return _fit_even(plan, even, words) if target is None else _search(plan, target, words)
    finally:
        push_back(argv[0])


def _at_width(plan: EvalPlan, model: ConditionalModel, words: dict[str, str]) -> EvalPlan:
    return plan.at_width(model.width_mults[model.width_index(_number(words, "width", 1.0, gt=0))])


def _fit_even(plan: EvalPlan, even: str, words: dict[str, str]) -> int:
    """Fit the map of the dial, keep it and say it."""
    settings, checkpoint = plan.config.eval, plan.spec.checkpoint
    plan = _at_width(plan, load(plan.run_path, checkpoint), words)
    with block_pool(plan, choose_plan_workers(plan)) as count:
        counts = ValCounts(plan, count, logging.info)
        scores = {t: counts(even, t, plan.blocks) for t in sorted({0.0, *positions(plan.config), 1.0})}
    corners = fitted(even, {t: score.accuracy for t, score in scores.items()})
    where = f"{plan.examples} validation images under {_attack(plan)}, width {plan.points[0].width:g}"
    found = EvenDial(settings.dial, even, settings.dial_lam, plan.weights, *corners, where)
    path = file_of(plan.run_path, settings, even, checkpoint)
    keep(path, found)
    for t, score in scores.items():
        print(f"t = {t:.3g}: {even.upper()} {format_score(score)}")
    print("dial to t: " + ", ".join(f"{dial / 10:g} -> {found(dial / 10):.3g}" for dial in range(11)))
    print(f"fitted on {where}\n{path}\nuse it: eval.dial={settings.dial} eval.dial_even={even}")
    return 0


def _search(plan: EvalPlan, target: Target, words: dict[str, str]) -> int:
    model = load(plan.run_path, plan.spec.checkpoint)
    plan = _at_width(plan, model, words)
    lams = candidate_lams(plan.config, model.encode, _number(words, "resolution", 0.01, gt=0, le=1))
    with block_pool(plan, choose_plan_workers(plan)) as count:
        counts = ValCounts(plan, count, logging.info)
        search = Search(counts, plan.blocks, plan.examples, lams, positions(plan.config), target)
        found = search.run()
    if not found.reached:
        raise ConfigError(_refusal(plan, target, found))
    print(_answer(plan, target, found))
    what = _what(plan)
    for name in ("ra", "sa"):
        pair = monotonicity_violation(name, search.held)
        if pair:
            course = "falls" if name == "ra" else "rises"
            places = f"from {what} {pair[0]:.3g} to {pair[1]:.3g}"
            print(f"note: {name.upper()} {course} {places}; there may be a better {what}")
    print(
        f"looked at {len({lam for _, lam in search.held})} of {len(lams)} {what}, attacked {counts.attacked:,} images"
    )
    return 0


def even_of(words: dict[str, str]) -> str:
    """Which accuracy a dial is to move in equal steps; "" where a target is asked for.

    Raises:
        ConfigError: another word, with a target, or along a map that is there already.
    """
    if "even" not in words:
        return ""
    check_choice("even", words["even"], ("ra", "sa"))
    extra = [name for name in ("sa", "ra", "eval.dial_even") if name in words]
    if extra:
        raise ConfigError(f"even={words['even']} {extra[0]}={words[extra[0]]}: one at a time; leave {extra[0]} out")
    return words["even"]


def target_of(words: dict[str, str]) -> Target:
    """What has to be reached.

    Raises:
        ConfigError: none or two targets, or a level or confidence that is none.
    """
    named = [name for name in ("sa", "ra") if name in words]
    if len(named) != 1:
        raise ConfigError(f"{len(named)} targets: give one of sa=LEVEL and ra=LEVEL, such as ra=0.25")
    level = parse_accuracy(named[0], words[named[0]])
    if not 0 < level < 1:
        raise ConfigError(f"{named[0]}={words[named[0]]}: must be more than 0 and less than 1")
    return Target(named[0], level, _number(words, "confidence", 0.9, ge=0.5, lt=1))


def plan_of(place: str, words: dict[str, str]) -> EvalPlan:
    """The evaluation of the validation split whose outcomes are looked at, of the run at a path or URI.

    Raises:
        ConfigError: no run, another split, or more than one attack or noise mode.
    """
    spec = read_spec({"split": "val", **{name: words[name] for name in _SPEC if name in words}})
    if spec.split != "val":
        raise ConfigError(f"split={spec.split}: calibration looks at the validation split only; valid: val")
    for name in ("attack", "noise"):
        if name in words and (len(getattr(spec, name)) != 1 or getattr(spec, name) == ("none",)):
            raise ConfigError(f"{name}={words[name]}: calibration needs exactly one")
    settings = {path: value for path, value in words.items() if path.startswith(_OPEN)}
    run = RunDir(fetch_run(place, checkpoints=True))
    own = run.config()
    if own.method.name == "pair":
        check_pair_checkpoint(run, words.get("checkpoint", ""))
    if "even" in words:
        blend = "weights" if own.eval.dial == "switch" else own.eval.dial
        settings = {"eval.dial": blend, **settings}
        if settings["eval.dial"] == "switch":
            raise ConfigError(f"eval.dial=switch: has no map to fit; valid: {', '.join(BLENDS[1:])}")
    config = apply_overrides(own, {"launch": "local", "launch.workers": "0", **settings})
    check_dial(config, settings)
    return make_plan(run, config, spec, attack_settings(settings), mixed=True)


def _words(argv: Sequence[str]) -> dict[str, str]:
    words = dict[str, str]()
    for word in argv:
        path, _, value = word.partition("=")
        path = path.removesuffix(">")
        if path not in (*_OWN, *_SPEC) and not path.startswith(_OPEN):
            raise ConfigError(describe_unknown("setting of a calibration", path, [*_OWN, *_SPEC, *_OPEN]))
        words[path] = value
    for path, value in overridden_settings([word.replace(">=", "=", 1) for word in argv]):
        _check({path: value})
    return words


def _check(word: dict[str, str]) -> None:
    """Refuse a value that a later one replaces, and that could not count."""
    (name,) = word
    if name in ("sa", "ra"):
        target_of(word)
    elif name == "even":
        even_of(word)
    elif name in _OWN:
        bounds = {"confidence": {"ge": 0.5, "lt": 1.0}, "resolution": {"gt": 0.0, "le": 1.0}, "width": {"gt": 0.0}}
        _number(word, name, 0.0, **bounds[name])
    elif name in _SPEC:
        read_spec({"split": "val", **word})
    else:
        apply_overrides(Config(), word)


def _number(words: dict[str, str], name: str, default: float, **bounds: float) -> float:
    value: float = parse_value(name, words.get(name, default), float)
    check_bounds(name, value, bounds)
    return value


def _answer(plan: EvalPlan, target: Target, found: CalibrationResult) -> str:
    level = f"{target.name.upper()} >= {100 * target.level:g} %"
    where = f"n = {found.sa.num_examples} validation images under {_attack(plan)}"
    return (
        f"{_position(plan, found)}: RA {format_score(found.ra)}, SA {format_score(found.sa)} on {where}, "
        f"so {level} holds with {format_confidence(found.sure)}"
    )


def _what(plan: EvalPlan) -> str:
    return "lam" if plan.config.eval.dial == "switch" else "dial"


def _position(plan: EvalPlan, found: CalibrationResult) -> str:
    """What the answer is at: a lam, or a position of the dial with the blend it means."""
    if plan.config.eval.dial == "switch":
        return f"lam = {found.lam:.6g}"
    return f"dial = {found.lam:.6g} ({place_at(plan.config, found.lam, plan.even)})"


def _attack(plan: EvalPlan) -> str:
    (attack,) = plan.attacks
    used = plan.strengths[attack.name]
    numbers = used.epsilon, used.step_size, used.num_steps, 0, "float32", int(used.random_start)
    named = Attack(attack.name, used.norm, *numbers)
    return attack_label(named)


def _refusal(plan: EvalPlan, target: Target, found: CalibrationResult) -> str:
    score = found.sa if target.name == "sa" else found.ra
    surely = wilson(score.num_correct, score.num_examples, NormalDist().inv_cdf(target.confidence)).low
    best = f"the best {_what(plan)} seen is {found.lam:.6g} with {target.name.upper()} {format_score(score)}"
    not_here = f"{target.name}={target.level:g}: not reached with {100 * target.confidence:g} % confidence"
    return f"{not_here}; {best}; valid: up to {math.floor(1000 * surely) / 1000:g}"


if __name__ == "__main__":
    run_cli(lambda: main(sys.argv[1:]))
