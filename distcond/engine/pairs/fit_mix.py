"""Fit MixedNUTS' transformation for a pair on validation images, clean and attacked, and keep it beside the pair."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from distcond.attacks.attack import Attack
from distcond.config.schema import AttackConfig, Config
from distcond.data.described import prepared
from distcond.data.loader import to_float
from distcond.data.open import open_source
from distcond.dial import at
from distcond.engine.campaign.weights_digest import weights_digest
from distcond.engine.evaluate import Blocks
from distcond.engine.pairs.record import MIX
from distcond.engine.precision import full_float32
from distcond.engine.restore import load
from distcond.engine.run_dir import RunDir, read_json, write_json
from distcond.engine.world import World, choose_device
from distcond.errors import ConfigError
from distcond.mixednuts import Fitted, fit
from distcond.registry import table, unknown
from distcond.results.store import FOLDER as RESULTS
from distcond.seeding import key


def fitting_attack(name: str) -> Attack:
    """The attack whose images the fit looks at.

    Raises:
        ConfigError: no such attack, or a cascade, which has no one image.
    """
    single = {name: attack for name, attack in table("attack").items() if attack.run is not None}
    if name not in single:
        raise ConfigError(unknown("value for fit_attack", name, single))
    attack: Attack = single[name]
    return attack


def keep_fitted(run: RunDir, config: Config, attack: Attack, strength: AttackConfig, beta: float) -> dict[str, Any]:
    """What is kept of a fit under this attack on these images; made first, if there is none.

    Raises:
        ConfigError: no image to fit on (`distcond.mixednuts.fit`), or the images cannot be read.
    """
    device = choose_device(config.launch.device)
    model = load(run.path, device=device, data=config.data)
    source = open_source(prepared(config.data), "val", device, config.data.threads)
    blocks = Blocks(source, config.eval.val_examples, config.eval.batch_size)
    under = {
        "weights": weights_digest(model), "images": blocks.images, "examples": len(blocks), "beta": beta,
        "seed": config.seed, "block_size": config.eval.batch_size, "attack": {"name": attack.name, **asdict(strength)},
    }  # fmt: skip
    file = run.path / MIX
    known = read_json(file) if file.exists() else {}
    if all(known.get(name) == value for name, value in under.items()):
        return dict(known)
    robust = at(model.requires_grad_(False), 1.0)
    found: Fitted = fit(*_logits(robust, blocks, attack, strength, config.seed), beta)
    kept = {**found.mix._asdict(), "alpha": found.alpha, "surpass": found.surpass, **under}
    write_json(file, kept)
    for even in (run.path / RESULTS).glob("dial-mixednuts-*.json"):
        even.unlink()  # the map of another mix
    return kept


def _logits(
    robust: torch.nn.Module, blocks: Blocks, attack: Attack, strength: AttackConfig, seed: int
) -> tuple[Tensor, Tensor]:
    """The robust network's logits of clean images it gets wrong, and of attacked ones it gets right."""
    wrong, right = list[Tensor](), list[Tensor]()
    parts = blocks.of(World())
    assert attack.run is not None
    for (number, _), (raw, y) in zip(parts, blocks.source.read([rows for _, rows in parts]), strict=True):
        x = to_float(raw).contiguous()
        with full_float32():
            moved = attack.run(robust, x, y, strength, key(seed, "mixednuts", attack.name, number)).detach()
            with torch.no_grad():
                clean, attacked = robust(x), robust(moved)
        wrong.append(clean[clean.argmax(1) != y])
        right.append(attacked[(clean.argmax(1) == y) & (attacked.argmax(1) == y)])
    return torch.cat(wrong), torch.cat(right)
