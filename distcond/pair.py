"""Combine two runs into one with a dial between them: `python -m distcond.pair STANDARD ROBUST [OPTION=VALUE ...]`.

    python -m distcond.pair runs/standard-... runs/pgd_at-...                    mixed in three ways, and evaluated
    python -m distcond.pair runs/standard-... runs/trades-... mix=outputs attack=autoattack eval.test_examples=1000
    python -m distcond.pair runs/standard-... runs/pgd_at-... mix=none           only the pair, for distcond.evaluate

STANDARD and ROBUST are runs of plain networks with the same model, classes and normalisation. The pair is a run
directory of its own: lam 0 is the standard run and lam 1 the robust one. distcond.evaluate, calibrate and report accept
it like any other. Its training cost is the sum of both. Each mix is one dial (docs/dial.md):

  weights     raw weights interpolated, the normalisation's statistics estimated anew on training images: one forward
              (train ROBUST with init_from=STANDARD: independently trained networks rarely connect linearly)
  outputs     the mean of both networks' probabilities: two forwards
  mixednuts   the same after a transformation of the robust network's logits, fitted on validation: two forwards
  folded      folded weights interpolated, as in a network with two paths: one forward

  mix=weights,outputs,mixednuts   one or more of these, or none
  checkpoint=best      of the two runs: best, last or last_raw
  fit_attack=pgd       mixednuts: the attack behind the fit, with the settings of eval.attack
  beta=0.985           mixednuts: share of the robust network's correct predictions under attack to keep
  refit=false          mixednuts: a pair has one fit; true replaces it and removes the rows of the old one
  run_root=DIR         parent of the pair's run directory; default ./runs

and every option of python -m distcond.evaluate except eval.dial. The same command resumes after a stop.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from distcond.config.command_line import run_cli
from distcond.config.fields import check_bounds, check_choice, parse_value
from distcond.config.overrides import apply_overrides, check_dial
from distcond.config.schema import AttackConfig, Config
from distcond.data.prepare import prepare_data, resolve_dataset
from distcond.errors import ConfigError
from distcond.evaluate import main as evaluate
from distcond.evaluate import split_args
from distcond.evaluation.spec import attack_settings, attacks_of, present_name, read_spec, strength
from distcond.mixednuts import check_classes
from distcond.operating_point import BLENDS
from distcond.pairs.create import check_fit, create_pair, pair_config, read_source
from distcond.pairs.fit_mixednuts import fit_or_load, fitting_attack
from distcond.results.cost import cost_lines, costs_below
from distcond.runs.code_trust import take_trust
from distcond.runs.load_run import CHECKPOINT_CHOICES
from distcond.runs.run_dir import RunDir

_MIXES = ("weights", "outputs", "mixednuts")
_OPTIONS = ("mix", "checkpoint", "fit_attack", "beta", "refit", "run_root")


@dataclass
class PairRequest:
    """A parsed command line."""

    mixes: tuple[str, ...] = _MIXES
    checkpoint: str = "best"
    fit_attack: str = "pgd"
    beta: float = 0.985
    refit: bool = False
    run_root: str = ""
    named: frozenset[str] = frozenset()  # options that the command line sets
    rest: list[str] = field(default_factory=list)  # options for the evaluations


def main(argv: Sequence[str]) -> int:
    """Make the pair, fit MixedNUTS if needed, and evaluate each mix; returns the exit status."""
    if not argv or set(argv) & {"--help", "-h"}:
        print(__doc__)
        return 0
    argv = take_trust(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    places, settings = split_places(argv)
    request = parse_request(settings)
    standard, robust = (read_source(place, request.checkpoint) for place in places)
    check_fit(standard, robust)
    config = pair_config(standard, robust, request.run_root)
    evaluated = check_evaluation(config, request)
    run = create_pair(standard, robust, replace(config, data=evaluated.data))  # the images may have moved
    logging.info(f"pair     {run.path}: lam 0 is {standard.record['run']}, lam 1 is {robust.record['run']}")
    alpha = _fit(run, evaluated, request) if "mixednuts" in request.mixes else 1.0
    for mix in request.mixes:
        more = with_own_point(evaluated, request, alpha) if mix == "mixednuts" else []
        status = evaluate([str(run.path), *request.rest, f"eval.dial={mix}", *more])
        if status:
            return status
        print()
    print("\n".join((cost_lines(run.path), *between_lines(run), str(run.path))))
    return 0


def between_lines(run: RunDir) -> list[str]:
    """A line with the FLOPs per image of each evaluated mix, between both ends; none before an evaluation."""
    flops = {at.point.blend: cost.flops for at, cost in costs_below(run.path).items() if 0 < at.point.t < 1}
    return [f"between both: {', '.join(f'{mix} {flops[mix]:.3g}' for mix in flops)} FLOPs per image"] if flops else []


def split_places(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Separate the two runs from options. The first two arguments may be paths or URIs that contain "=".

    Raises:
        ConfigError: not exactly two runs.
    """
    places = [arg for number, arg in enumerate(argv) if not _is_option(arg, number < 2)]
    if len(places) != 2:
        raise ConfigError(f"{len(places)} runs: give two, STANDARD and then ROBUST; options are OPTION=VALUE")
    return places, [arg for arg in argv if arg not in places]


def _is_option(arg: str, may_be_place: bool) -> bool:
    name, equals, _ = arg.partition("=")
    plain = re.fullmatch(r"[A-Za-z_][\w.]*", name) is not None and not Path(arg).is_dir()
    return bool(equals) and (plain or not may_be_place)


def parse_request(argv: Sequence[str]) -> PairRequest:
    """Parse the options of a command line. Unknown ones are left for the evaluations.

    Raises:
        ConfigError: an invalid value, or a setting of the dial, which `mix` sets.
    """
    own, rest = dict[str, str](), list[str]()
    for arg in argv:
        name, _, value = arg.partition("=")
        if name in ("eval.dial", "eval.dial_even", "eval.dial_lam"):
            raise ConfigError(f"{arg}: mix sets the dials; valid: mix={','.join(BLENDS[1:])}")
        if name in _OPTIONS:
            own[name] = value
            _parse_values(own)  # also a value that a later argument overrides
        else:
            rest.append(arg)
    return PairRequest(**_parse_values(own), rest=rest, named=frozenset(own))


def _parse_values(own: dict[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {name: own[name] for name in ("run_root",) if name in own}
    if "mix" in own:
        mixes = dict.fromkeys(parse_value("mix", own["mix"], tuple[str, ...]))
        for mix in mixes or [""]:
            check_choice("mix", mix, ("none", *BLENDS[1:]))
        values["mixes"] = tuple(mix for mix in mixes if mix != "none")
    if "checkpoint" in own:
        values["checkpoint"] = check_choice("checkpoint", own["checkpoint"], CHECKPOINT_CHOICES)
    if "fit_attack" in own:
        values["fit_attack"] = fitting_attack(present_name(own["fit_attack"], "fit_attack")).name
    if "beta" in own:
        values["beta"] = parse_value("beta", own["beta"], float)
        check_bounds("beta", values["beta"], {"gt": 0.0, "lt": 1.0})
    if "refit" in own:
        values["refit"] = parse_value("refit", own["refit"], bool)
    return values


def check_evaluation(config: Config, request: PairRequest) -> Config:
    """The settings of the pair with the options of its evaluations, checked before anything is written.

    Raises:
        ConfigError: an invalid option.
    """
    rest = request.rest
    own, settings = split_args(rest)
    spec = read_spec(own)
    for mix in request.mixes:
        check_dial(apply_overrides(config, {**settings, "eval.dial": mix}), settings)
    config = apply_overrides(config, settings)
    classes = resolve_dataset(config.data).num_classes
    for attack in attacks_of(replace(spec, attack=spec.attack or (config.eval.attack_name,))):
        strength(attack, config.eval.attack, _attack_settings(rest), classes)
    if "mixednuts" in request.mixes:
        check_classes(classes)
        strength(fitting_attack(request.fit_attack), config.eval.attack, _attack_settings(rest), classes)
    prepare_data(config.data)
    return config


def _attack_settings(rest: Sequence[str]) -> frozenset[str]:
    return attack_settings(arg.partition("=")[0] for arg in rest)


def with_own_point(config: Config, request: PairRequest, alpha: float) -> list[str]:
    """Options that add MixedNUTS' own operating point to the grid, unless the command sets the grid.

    The point is often close to t = 1, between the last positions of a grid that suits the other mixes.
    """
    if any(arg.startswith("eval.dial_grid=") for arg in request.rest):
        return []
    grid = sorted({*config.eval.dial_grid, float(f"{alpha:.6g}")})
    return ["eval.dial_grid=" + ",".join(f"{t:.6g}" for t in grid)]


def _fit(run: RunDir, config: Config, request: PairRequest) -> float:
    """Fit MixedNUTS, or load the fit; returns its own operating point, a t."""
    attack = fitting_attack(request.fit_attack)
    attack_config: AttackConfig = strength(
        attack, config.eval.attack, _attack_settings(request.rest), resolve_dataset(config.data).num_classes
    )
    fit = fit_or_load(run, config, attack, attack_config, request.beta, request.refit, request.named)
    numbers = ", ".join(f"{name} = {fit[name]:g}" for name in ("s", "p", "c"))
    logging.info(
        f"mixednuts: {numbers}, fitted on {fit['examples']} validation images under {fit['attack']['name']}; the "
        f"paper's one point is t = {fit['alpha']:.6g}"
    )
    alpha: float = fit["alpha"]
    return alpha


if __name__ == "__main__":
    run_cli(lambda: main(sys.argv[1:]))
