"""Find the lam that reaches a target: `python -m distcond.calibrate RUN_DIR ra=LEVEL|sa=LEVEL [PATH=VALUE ...]`.

    python -m distcond.calibrate runs/float-... ra=0.25                  RA at least 25 %, SA as high as that leaves it
    python -m distcond.calibrate runs/float-... sa=80% attack=apgd-ce    SA at least 80 %, RA as high as that leaves it
    python -m distcond.calibrate runs/oats-... ra=0.3 width=0.5 confidence=0.95 eval.val_examples=2000

Looks at the validation split only, at few lam, and at no more examples than it takes to tell on which side of the
target a lam lies; the answer is counted on all of them. "Holds with 93 %" is about images like these under this
attack; a stronger attack lowers RA. What was counted is kept: the same command again only reads it.

  confidence=0.9     how surely the target has to hold at the lam that is named
  resolution=0.01    distance between the lam that are considered, where the network can stand anywhere
  width=1            multiplier of the width, for networks with several
  attack=pgd-best    the attack behind RA, as eval.attack says; one of those of python -m distcond.evaluate --help
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
from dataclasses import replace
from statistics import NormalDist

from distcond.config.command_line import earlier, guarded
from distcond.config.overrides import apply
from distcond.config.schema import Config
from distcond.config.setting import check_bounds, read
from distcond.engine.campaign.calibrate import Found, Search, Target, against_the_rule
from distcond.engine.campaign.make_plan import make_plan
from distcond.engine.campaign.plan import Plan
from distcond.engine.campaign.val_counts import ValCounts, standing_places
from distcond.engine.campaign.words import campaign_of
from distcond.engine.copies import here, send_back
from distcond.engine.grid import positions
from distcond.engine.restore import load
from distcond.engine.run_dir import RunDir
from distcond.errors import ConfigError
from distcond.launch.block_pool import counting
from distcond.launch.evaluate_driver import workers_for
from distcond.registry import unknown
from distcond.results.choices import percent
from distcond.results.choose import read_level
from distcond.results.interval import wilson
from distcond.results.label import attack_label, sureness
from distcond.results.row import Attack

_OWN = ("sa", "ra", "confidence", "resolution", "width")
_CAMPAIGN = ("attack", "noise", "eot_draws", "checkpoint", "split")
_LAUNCH = ("launch.device", "launch.workers", "launch.cpus_per_worker")
_OPEN = ("eval.", "data.root", "data.loader", "data.cache_dir", "data.threads", *_LAUNCH)
_ATTACK = "eval.attack."


def main(argv: Sequence[str]) -> int:
    """Search and say what was found."""
    if not argv or set(argv) & {"--help", "-h"}:
        print(__doc__)
        return 0
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    words = _words(argv[1:])
    target, plan = target_of(words), plan_of(argv[0], words)
    try:
        return _search(plan, target, words)
    finally:
        send_back(argv[0])


def _search(plan: Plan, target: Target, words: dict[str, str]) -> int:
    model = load(plan.run_path, plan.campaign.checkpoint)
    plan = replace(plan, widths=(model.width_index(_number(words, "width", 1.0, gt=0)),))
    lams = standing_places(plan.config, model.encode, _number(words, "resolution", 0.01, gt=0, le=1))
    with counting(plan, workers_for(plan)) as count:
        counts = ValCounts(plan, count, logging.info)
        search = Search(counts, plan.blocks, plan.examples, lams, positions(plan.config), target)
        found = search.run()
    if not found.reached:
        raise ConfigError(_refusal(target, found))
    print(_answer(plan, target, found))
    for name in ("ra", "sa"):
        pair = against_the_rule(name, search.held)
        if pair:
            course = "falls" if name == "ra" else "rises"
            print(f"note: {name.upper()} {course} from lam {pair[0]:.3g} to {pair[1]:.3g}; there may be a better lam")
    print(f"looked at {len({lam for _, lam in search.held})} of {len(lams)} lam, attacked {counts.attacked:,} images")
    return 0


def target_of(words: dict[str, str]) -> Target:
    """What has to be reached.

    Raises:
        ConfigError: none or two targets, or a level or confidence that is none.
    """
    named = [name for name in ("sa", "ra") if name in words]
    if len(named) != 1:
        raise ConfigError(f"{len(named)} targets: give one of sa=LEVEL and ra=LEVEL, such as ra=0.25")
    level = read_level(named[0], words[named[0]])
    if not 0 < level < 1:
        raise ConfigError(f"{named[0]}={words[named[0]]}: must be more than 0 and less than 1")
    return Target(named[0], level, _number(words, "confidence", 0.9, ge=0.5, lt=1))


def plan_of(place: str, words: dict[str, str]) -> Plan:
    """The evaluation of the validation split whose outcomes are looked at, of the run at a path or URI.

    Raises:
        ConfigError: no run, another split, or more than one attack or noise mode.
    """
    campaign = campaign_of({"split": "val", **{name: words[name] for name in _CAMPAIGN if name in words}})
    if campaign.split != "val":
        raise ConfigError(f"split={campaign.split}: calibration looks at the validation split only; valid: val")
    for name in ("attack", "noise"):
        if len(getattr(campaign, name)) != 1 or getattr(campaign, name) == ("none",):
            raise ConfigError(f"{name}={words[name]}: calibration needs exactly one")
    settings = {path: value for path, value in words.items() if path.startswith(_OPEN)}
    given = frozenset(path.removeprefix(_ATTACK) for path in settings if path.startswith(_ATTACK))
    run = RunDir(here(place, checkpoints=True))
    config = apply(run.config(), {"launch": "local", "launch.workers": "0", **settings})
    return make_plan(run, config, campaign, given, mixed=True)


def _words(argv: Sequence[str]) -> dict[str, str]:
    words = dict[str, str]()
    for word in argv:
        path, _, value = word.partition("=")
        path = path.removesuffix(">")
        if path not in (*_OWN, *_CAMPAIGN) and not path.startswith(_OPEN):
            raise ConfigError(unknown("setting of a calibration", path, [*_OWN, *_CAMPAIGN, *_OPEN]))
        words[path] = value
    for path, value in earlier([word.replace(">=", "=", 1) for word in argv]):
        _check({path: value})
    return words


def _check(word: dict[str, str]) -> None:
    """Refuse a value that a later one replaces, and that could not count."""
    (name,) = word
    if name in ("sa", "ra"):
        target_of(word)
    elif name in _OWN:
        bounds = {"confidence": {"ge": 0.5, "lt": 1.0}, "resolution": {"gt": 0.0, "le": 1.0}, "width": {"gt": 0.0}}
        _number(word, name, 0.0, **bounds[name])
    elif name in _CAMPAIGN:
        campaign_of({"split": "val", **word})
    else:
        apply(Config(), word)


def _number(words: dict[str, str], name: str, default: float, **bounds: float) -> float:
    value: float = read(name, words.get(name, default), float)
    check_bounds(name, value, bounds)
    return value


def _answer(plan: Plan, target: Target, found: Found) -> str:
    level = f"{target.name.upper()} >= {100 * target.level:g} %"
    where = f"n = {found.sa.num_examples} validation images under {_attack(plan)}"
    return (
        f"lam = {found.lam:.6g}: RA {percent(found.ra)}, SA {percent(found.sa)} on {where}, "
        f"so {level} holds with {sureness(found.sure)}"
    )


def _attack(plan: Plan) -> str:
    (attack,) = plan.attacks
    strength = plan.strengths[attack.name]
    named = Attack(attack.name, strength.norm, strength.epsilon, strength.step_size, strength.num_steps, 0, "float32")
    return attack_label(named)


def _refusal(target: Target, found: Found) -> str:
    score = found.sa if target.name == "sa" else found.ra
    surely = wilson(score.num_correct, score.num_examples, NormalDist().inv_cdf(target.confidence)).low
    best = f"the best lam seen is {found.lam:.6g} with {target.name.upper()} {percent(score)}"
    not_here = f"{target.name}={target.level:g}: not reached with {100 * target.confidence:g} % confidence"
    return f"{not_here}; {best}; valid: up to {math.floor(1000 * surely) / 1000:g}"


if __name__ == "__main__":
    guarded(lambda: main(sys.argv[1:]))
