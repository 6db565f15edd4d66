"""Fits MixedNUTS' transformation for a pair on clean and attacked validation images, and stores it with the pair.

A pair has one fit, which rows do not name. `refit` replaces it and removes its rows.
"""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from distcond.atomic_io import file_lock, write_json
from distcond.attacks.attack import Attack
from distcond.attacks.starts import example_seeds
from distcond.config.schema import AttackConfig, Config
from distcond.data.loader import to_float
from distcond.data.prepare import open_source, prepare_data
from distcond.data.sources import Source
from distcond.data.splits import image_set_digest, split_digest
from distcond.distributed.world import choose_device
from distcond.errors import ConfigError
from distcond.evaluation.layout import Blocks
from distcond.mixednuts import MixFit, fit_transformation
from distcond.models.conditional import ConditionalModel
from distcond.models.dial import network_at
from distcond.models.weights_digest import weights_digest
from distcond.path_errors import can_write
from distcond.registry import describe_unknown, table
from distcond.results.cost import COSTS_GLOB
from distcond.results.store import remove_parts
from distcond.run_layout import MIXEDNUTS_FILE, RESULTS_DIR
from distcond.runs.build import full_float32
from distcond.runs.load_run import load
from distcond.runs.pair_record import load_fit
from distcond.runs.run_dir import RunDir

_log = logging.getLogger(__name__)

#: Key in the record of a fit -> option of the command that sets it.
_OPTION_OF = {"beta": "beta", "attack": "fit_attack", "examples": "eval.val_examples", "block_size": "eval.batch_size"}


def fitting_attack(name: str) -> Attack:
    """The attack of a fit, by name.

    Raises:
        ConfigError: no such attack, or an ensemble, which yields no single attacked image.
    """
    single = {name: attack for name, attack in table("attack").items() if attack.run is not None}
    if name not in single:
        raise ConfigError(describe_unknown("value for fit_attack", name, single))
    attack: Attack = single[name]
    return attack


def fit_or_load(
    run: RunDir,
    config: Config,
    attack: Attack,
    strength: AttackConfig,
    beta: float,
    refit: bool = False,
    named: frozenset[str] = frozenset(),
) -> dict[str, Any]:
    """Load the pair's fit, or make and store it.

    Args:
        run: the pair.
        config: of the pair with the command's settings, for the images and their number.
        attack: of the fit.
        strength: of the attack.
        beta: share of correct predictions under attack to keep.
        refit: replace an existing fit and remove its rows.
        named: which of "beta" and "fit_attack" the user set; they must match an existing fit.

    Returns:
        The record of the fit: s, p, c, alpha, surpass, and what it was made with.

    Raises:
        ConfigError: no image to fit on (`distcond.mixednuts.fit_transformation`), the images cannot be read, the fit
            cannot be stored, or the existing one was made with another value of an option in `named`.
    """
    device = choose_device(config.launch.device)
    model = load(run.path, device=device, data=config.data)
    source = open_source(prepare_data(config.data), "val", device, config.data.threads)
    blocks = Blocks.of(source, config.eval.val_examples, config.eval.batch_size)
    made_with = {
        "weights": weights_digest(model), "images": image_set_digest(split_digest(source), blocks.all()),
        "examples": blocks.examples, "beta": beta,
        "seed": config.seed, "block_size": config.eval.batch_size, "attack": {"name": attack.name, **asdict(strength)},
    }  # fmt: skip
    fit = load_fit(run, model)
    if fit is not None and not refit:
        return _check_existing(fit, made_with, named)
    if not can_write(run.path):
        raise ConfigError(f"{run.path}: not writable, but the fit of mix=mixednuts is stored there")
    with file_lock(run.path / f".{MIXEDNUTS_FILE}.lock"):
        fit = load_fit(run, model)
        if fit is not None and not refit:  # another process has made it
            return _check_existing(fit, made_with, named)
        new = _fit(model, source, blocks, attack, strength, beta, config.seed) | made_with
        if fit is None or any(fit[name] != new[name] for name in ("s", "p", "c")):
            _remove_rows(run)  # first, so that a kill in between leaves no rows of a replaced fit
        write_json(run.path / MIXEDNUTS_FILE, new)
    return new


def _check_existing(fit: dict[str, Any], made_with: dict[str, Any], named: frozenset[str]) -> dict[str, Any]:
    """Return an existing fit; logs a line if this command would make another one.

    Raises:
        ConfigError: it was made with another value of an option in `named`.
    """
    different = [_OPTION_OF.get(name, name) for name, value in made_with.items() if fit.get(name) != value]
    for name in different:
        if name in named:
            here = made_with["beta"] if name == "beta" else made_with["attack"]["name"]
            there = fit.get("beta") if name == "beta" else fit.get("attack", {}).get("name")
            if here != there:
                raise ConfigError(
                    f"{name}={here}: this pair is fitted with {name}={there}; refit=true replaces the fit and its rows"
                )
    if different:
        _log.info("mixednuts: using the existing fit, made with other %s; refit=true replaces it", ", ".join(different))
    return fit


def _fit(
    model: ConditionalModel,
    source: Source,
    blocks: Blocks,
    attack: Attack,
    strength: AttackConfig,
    beta: float,
    seed: int,
) -> dict[str, Any]:
    robust = network_at(model.requires_grad_(False), 1.0)
    fit: MixFit = fit_transformation(*_logits(robust, source, blocks, attack, strength, seed), beta)
    return {**fit.mix._asdict(), "alpha": fit.alpha, "surpass": fit.surpass}


def _remove_rows(run: RunDir) -> None:
    """Remove rows, costs and even dials of the old fit. Outcomes name their fit and stay."""
    for even in (run.path / RESULTS_DIR).glob("dial-mixednuts-*.json"):
        even.unlink()
    removed = remove_parts(run.path, lambda row: row.blend == "mixednuts")
    for stem in removed:
        (run.path / RESULTS_DIR / COSTS_GLOB.replace("*", stem)).unlink(missing_ok=True)
    if removed:
        _log.info("mixednuts: fit replaced; removed %d tables of the old one", len(removed))


def _logits(
    robust: torch.nn.Module, source: Source, blocks: Blocks, attack: Attack, strength: AttackConfig, seed: int
) -> tuple[Tensor, Tensor]:
    """The robust network's logits of clean images it gets wrong, and of attacked images it gets right."""
    wrong, right = list[Tensor](), list[Tensor]()
    parts = [blocks.members(number) for number in range(len(blocks))]
    assert attack.run is not None
    for rows, (raw, y) in zip(parts, source.read(parts), strict=True):
        x = to_float(raw).contiguous()
        with full_float32():
            x_adv = attack.run(robust, x, y, strength, example_seeds(seed, rows)).detach()
            with torch.no_grad():
                clean, attacked = robust(x), robust(x_adv)
        wrong.append(clean[clean.argmax(1) != y])
        right.append(attacked[(clean.argmax(1) == y) & (attacked.argmax(1) == y)])
    return torch.cat(wrong), torch.cat(right)
