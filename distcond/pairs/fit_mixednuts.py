"""Fits MixedNUTS' transformation for a pair on validation images, clean and attacked, and keeps it beside the pair.

A pair has one fit: rows do not name it. A new fit replaces it on request and removes its rows.
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

#: What a fit is made under, by the word that decides it.
_UNDER = {"beta": "beta", "attack": "fit_attack", "examples": "eval.val_examples", "block_size": "eval.batch_size"}


def fitting_attack(name: str) -> Attack:
    """The attack whose images the fit looks at.

    Raises:
        ConfigError: no such attack, or a cascade, which has no one image.
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
    """What is kept of the pair's one fit; made under this attack on these images, if there is none.

    Args:
        run: the pair.
        config: its settings, for the images and their number.
        attack: whose images the fit looks at.
        strength: of the attack.
        beta: share of right answers under attack that has to stay right.
        refit: make it anew; the rows of the one before are removed.
        named: those of "beta" and "fit_attack" that a user names: they have to be what is kept.

    Raises:
        ConfigError: no image to fit on (`distcond.mixednuts.fit_transformation`), the images cannot be read, the fit
            cannot be written, or the one that is kept was made under another `named`.
    """
    device = choose_device(config.launch.device)
    model = load(run.path, device=device, data=config.data)
    source = open_source(prepare_data(config.data), "val", device, config.data.threads)
    blocks = Blocks.of(source, config.eval.val_examples, config.eval.batch_size)
    under = {
        "weights": weights_digest(model), "images": image_set_digest(split_digest(source), blocks.all()),
        "examples": blocks.examples, "beta": beta,
        "seed": config.seed, "block_size": config.eval.batch_size, "attack": {"name": attack.name, **asdict(strength)},
    }  # fmt: skip
    known = load_fit(run, model)
    if known is not None and not refit:
        return _as_kept(known, under, named)
    if not can_write(run.path):
        raise ConfigError(f"{run.path}: cannot be written, and mix=mixednuts is to be fitted and kept there")
    with file_lock(run.path / f".{MIXEDNUTS_FILE}.lock"):
        known = load_fit(run, model)
        if known is not None and not refit:  # by another process, meanwhile
            return _as_kept(known, under, named)
        kept = _fitted(model, source, blocks, attack, strength, beta, config.seed) | under
        if known is None or any(known[name] != kept[name] for name in ("s", "p", "c")):
            _forget(run)  # first: a kill between leaves no rows of a fit that is gone
        write_json(run.path / MIXEDNUTS_FILE, kept)
    return kept


def _as_kept(known: dict[str, Any], under: dict[str, Any], named: frozenset[str]) -> dict[str, Any]:
    """The fit that is there, and a line where it is not what this command would make."""
    other = [_UNDER.get(name, name) for name, value in under.items() if known.get(name) != value]
    for name in other:
        if name in named:
            here = under["beta"] if name == "beta" else under["attack"]["name"]
            there = known.get("beta") if name == "beta" else known.get("attack", {}).get("name")
            if here != there:
                raise ConfigError(
                    f"{name}={here}: this pair is fitted with {name}={there}; refit=true fits it anew, without its rows"
                )
    if other:
        _log.info("mixednuts: kept as it was fitted, under another %s; refit=true fits it anew", ", ".join(other))
    return known


def _fitted(
    model: ConditionalModel,
    source: Source,
    blocks: Blocks,
    attack: Attack,
    strength: AttackConfig,
    beta: float,
    seed: int,
) -> dict[str, Any]:
    robust = network_at(model.requires_grad_(False), 1.0)
    found: MixFit = fit_transformation(*_logits(robust, source, blocks, attack, strength, seed), beta)
    return {**found.mix._asdict(), "alpha": found.alpha, "surpass": found.surpass}


def _forget(run: RunDir) -> None:
    """Remove what tells of another mix: rows, costs and even dials. Outcomes say whose they are and stay."""
    for even in (run.path / RESULTS_DIR).glob("dial-mixednuts-*.json"):
        even.unlink()
    removed = remove_parts(run.path, lambda row: row.blend == "mixednuts")
    for stem in removed:
        (run.path / RESULTS_DIR / COSTS_GLOB.replace("*", stem)).unlink(missing_ok=True)
    if removed:
        _log.info("mixednuts: fitted anew; %d tables of the fit before are removed", len(removed))


def _logits(
    robust: torch.nn.Module, source: Source, blocks: Blocks, attack: Attack, strength: AttackConfig, seed: int
) -> tuple[Tensor, Tensor]:
    """The robust network's logits of clean images it gets wrong, and of attacked ones it gets right."""
    wrong, right = list[Tensor](), list[Tensor]()
    parts = [blocks.members(number) for number in range(len(blocks))]
    assert attack.run is not None
    for rows, (raw, y) in zip(parts, source.read(parts), strict=True):
        x = to_float(raw).contiguous()
        with full_float32():
            moved = attack.run(robust, x, y, strength, example_seeds(seed, rows)).detach()
            with torch.no_grad():
                clean, attacked = robust(x), robust(moved)
        wrong.append(clean[clean.argmax(1) != y])
        right.append(attacked[(clean.argmax(1) == y) & (attacked.argmax(1) == y)])
    return torch.cat(wrong), torch.cat(right)
