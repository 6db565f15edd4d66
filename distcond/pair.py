"""Put two runs on the axes of one network's dial: `python -m distcond.pair STANDARD ROBUST [WORD=VALUE ...]`.

    python -m distcond.pair runs/standard-... runs/pgd_at-...                    mixed in three ways, and evaluated
    python -m distcond.pair runs/standard-... runs/trades-... mix=outputs attack=autoattack eval.test_examples=1000
    python -m distcond.pair runs/standard-... runs/pgd_at-... mix=none           only the pair, for distcond.evaluate

STANDARD and ROBUST are runs of plain networks: of one model, on the same classes, with the same normalisation. The pair
is a run directory of its own: lam 0 is the standard run and lam 1 the robust one, and distcond.evaluate, calibrate and
report take it as any other. Its training cost is the sum of both. Each way of mixing is one dial (docs/dial.md):

  weights     raw weights interpolated, the normalisation's statistics estimated anew on training images: one forward
              (start ROBUST with init_from=STANDARD: networks that were trained apart seldom connect)
  outputs     the mean of both networks' probabilities: two forwards
  mixednuts   the same with the robust network's logits transformed, fitted on validation: two forwards
  folded      folded weights interpolated, as in a network with two paths: one forward

  mix=weights,outputs,mixednuts   which, or none
  checkpoint=best      of the two runs: best, last or last_raw
  fit_attack=pgd       mixednuts: the attack behind the fit, with the settings of eval.attack
  beta=0.985           mixednuts: share of the robust network's right answers under attack that has to stay right
  refit=false          mixednuts: a pair has one fit; true makes it anew and removes the rows of the one before
  run_root=DIR         where the pair's run directory goes; ./runs

and every word of python -m distcond.evaluate but eval.dial. The same command again goes on where it was stopped.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from distcond import evaluate
from distcond.config.command_line import run_cli
from distcond.config.fields import check_bounds, check_choice, parse_value
from distcond.config.overrides import apply_overrides, check_dial
from distcond.config.schema import AttackConfig, Config
from distcond.data.prepare import prepare_data, resolve_dataset
from distcond.errors import ConfigError
from distcond.evaluation.spec import attack_settings, attacks_of, present_name, read_spec, strength
from distcond.mixednuts import check_classes
from distcond.operating_point import BLENDS
from distcond.pairs.create import check_fit, create_pair, pair_config, read_source
from distcond.pairs.fit_mixednuts import fit_or_load, fitting_attack
from distcond.results.cost import cost_lines, costs_below
from distcond.runs.load_run import CHECKPOINT_CHOICES
from distcond.runs.run_dir import RunDir

_MIXES = ("weights", "outputs", "mixednuts")
_OWN = ("mix", "checkpoint", "fit_attack", "beta", "refit", "run_root")


@dataclass
class PairRequest:
    """What a command line asks for."""

    mixes: tuple[str, ...] = _MIXES
    checkpoint: str = "best"
    fit_attack: str = "pgd"
    beta: float = 0.985
    refit: bool = False
    run_root: str = ""
    named: frozenset[str] = frozenset()  # own words that the command line gives
    rest: list[str] = field(default_factory=list)  # for the evaluations


def main(argv: Sequence[str]) -> int:
    """Make the pair, fit what its mixes need, and evaluate each; the exit status."""
    if not argv or set(argv) & {"--help", "-h"}:
        print(__doc__)
        return 0
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    places, settings = split_places(argv)
    words = parse_request(settings)
    standard, robust = (read_source(place, words.checkpoint) for place in places)
    check_fit(standard, robust)
    config = pair_config(standard, robust, words.run_root)
    evaluated = check_evaluation(config, words)
    run = create_pair(standard, robust, replace(config, data=evaluated.data))  # which may lie elsewhere now
    logging.info(f"pair     {run.path}: lam 0 is {standard.record['run']}, lam 1 is {robust.record['run']}")
    alpha = _fit(run, evaluated, words) if "mixednuts" in words.mixes else 1.0
    for mix in words.mixes:
        more = with_own_point(evaluated, words, alpha) if mix == "mixednuts" else []
        status = evaluate.main([str(run.path), *words.rest, f"eval.dial={mix}", *more])
        if status:
            return status
        print()
    print("\n".join((cost_lines(run.path), *between_lines(run), str(run.path))))
    return 0


def between_lines(run: RunDir) -> list[str]:
    """What an image costs between both ends, by mix, where it was evaluated."""
    found = {at.blend: spent.flops for at, spent in costs_below(run.path).items() if 0 < at.blend_t < 1}
    return [f"between both: {', '.join(f'{mix} {found[mix]:.3g}' for mix in found)} FLOPs per image"] if found else []


def split_places(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """The places of the two runs, and settings. One of the first two words is a place, even with "=" in its address.

    Raises:
        ConfigError: other than two places.
    """
    places = [word for number, word in enumerate(argv) if not _is_setting(word, number < 2)]
    if len(places) != 2:
        raise ConfigError(f"{len(places)} runs: give two, STANDARD and then ROBUST; settings are WORD=VALUE")
    return places, [word for word in argv if word not in places]


def _is_setting(word: str, early: bool) -> bool:
    name, equals, _ = word.partition("=")
    plain = re.fullmatch(r"[A-Za-z_][\w.]*", name) is not None and not Path(word).is_dir()
    return bool(equals) and (plain or not early)


def parse_request(argv: Sequence[str]) -> PairRequest:
    """The words of a command line; those that are not its own are left for the evaluation.

    Raises:
        ConfigError: an own word whose value is not valid, or a dial, which mix says.
    """
    own, rest = dict[str, str](), list[str]()
    for word in argv:
        name, _, value = word.partition("=")
        if name in ("eval.dial", "eval.dial_even", "eval.dial_lam"):
            raise ConfigError(f"{word}: here mix says which dials; valid: mix={','.join(BLENDS[1:])}")
        if name in _OWN:
            own[name] = value
            _checked(own)  # also one that a later word replaces
        else:
            rest.append(word)
    return PairRequest(**_checked(own), rest=rest, named=frozenset(own))


def _checked(own: dict[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {name: own[name] for name in ("run_root",) if name in own}
    if "mix" in own:
        mixes = dict.fromkeys(parse_value("mix", own["mix"], tuple[str, ...]))
        for mix in mixes or [""]:
            check_choice("mix", mix, ("none", *BLENDS[1:]))
        found["mixes"] = tuple(mix for mix in mixes if mix != "none")
    if "checkpoint" in own:
        found["checkpoint"] = check_choice("checkpoint", own["checkpoint"], CHECKPOINT_CHOICES)
    if "fit_attack" in own:
        found["fit_attack"] = fitting_attack(present_name(own["fit_attack"], "fit_attack")).name
    if "beta" in own:
        found["beta"] = parse_value("beta", own["beta"], float)
        check_bounds("beta", found["beta"], {"gt": 0.0, "lt": 1.0})
    if "refit" in own:
        found["refit"] = parse_value("refit", own["refit"], bool)
    return found


def check_evaluation(config: Config, asked: PairRequest) -> Config:
    """The pair's settings as its evaluations have them.

    Raises:
        ConfigError: a word that is not valid, before anything is written.
    """
    rest = asked.rest
    words, settings = evaluate.split(rest)
    spec = read_spec(words)
    for mix in asked.mixes:
        check_dial(apply_overrides(config, {**settings, "eval.dial": mix}), settings)
    config = apply_overrides(config, settings)
    classes = resolve_dataset(config.data).num_classes
    for attack in attacks_of(replace(spec, attack=spec.attack or (config.eval.attack_name,))):
        strength(attack, config.eval.attack, _given(rest), classes)
    if "mixednuts" in asked.mixes:
        check_classes(classes)
        strength(fitting_attack(asked.fit_attack), config.eval.attack, _given(rest), classes)
    prepare_data(config.data)
    return config


def _given(rest: Sequence[str]) -> frozenset[str]:
    return attack_settings(word.partition("=")[0] for word in rest)


def with_own_point(config: Config, words: PairRequest, alpha: float) -> list[str]:
    """The words that look at MixedNUTS' own operating point, too, unless the command says where to look.

    It often lies close to t = 1, between the last positions of a grid that suits other mixes.
    """
    if any(word.startswith("eval.dial_grid=") for word in words.rest):
        return []
    grid = sorted({*config.eval.dial_grid, float(f"{alpha:.6g}")})
    return ["eval.dial_grid=" + ",".join(f"{t:.6g}" for t in grid)]


def _fit(run: RunDir, config: Config, words: PairRequest) -> float:
    """Fit MixedNUTS, unless that was done, and return its own operating point, a t."""
    attack = fitting_attack(words.fit_attack)
    used: AttackConfig = strength(
        attack, config.eval.attack, _given(words.rest), resolve_dataset(config.data).num_classes
    )
    kept = fit_or_load(run, config, attack, used, words.beta, words.refit, words.named)
    numbers = ", ".join(f"{name} = {kept[name]:g}" for name in ("s", "p", "c"))
    logging.info(
        f"mixednuts: {numbers}, fitted on {kept['examples']} validation images under {kept['attack']['name']}; the "
        f"paper's one point is t = {kept['alpha']:.6g}"
    )
    alpha: float = kept["alpha"]
    return alpha


if __name__ == "__main__":
    run_cli(lambda: main(sys.argv[1:]))
