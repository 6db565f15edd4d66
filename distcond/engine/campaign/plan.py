"""The whole of an evaluation, laid out: which blocks, what is counted on each, and where every outcome lies.

Made once, by the process that speaks for the evaluation, and handed to those that count. Work that is done is what
lies in its file, so a plan carried out again goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from distcond.attacks.attack import Attack
from distcond.config.schema import AttackConfig, Config
from distcond.data.splits import image_set_digest
from distcond.engine.campaign import outcomes
from distcond.engine.campaign.words import Campaign, attacks_of
from distcond.engine.even_dial import EvenDial
from distcond.models.dial import NUM_SURROGATES
from distcond.operating_point import OperatingPoint, PointLike, as_point
from distcond.seeding import key

FOLDER = "outcomes"
#: Names `distcond.data.splits.stratified_order`: blocks hold the same examples for every budget, the last one aside.
ORDER = "stratified-1"


class Measure(NamedTuple):
    """One thing counted on every block: answers at (point, width) under an attack optimised at `source`.

    `attack` is None for clean images; then `source` is the point, and `noise` is "fixed", or "fresh" for "eot" too.
    """

    attack: Attack | None
    point: OperatingPoint
    width: int
    noise: str
    source: OperatingPoint

    @property
    def lam(self) -> float:
        """Of the network, or of the robust end of a blend."""
        return self.point.lam

    @property
    def attack_lam(self) -> float:
        """That of the network the attack was optimised at."""
        return self.source.lam


@dataclass(frozen=True)
class Plan:
    """An evaluation of one checkpoint.

    Attributes:
        keep_path: where outcomes and rows are kept: in the run's directory, unless it cannot be written.
        strengths: name of each attack to what it uses.
        points: where answers are counted.
        width_mults: the network's widths, widest first.
        widths: indices of those that are looked at.
        examples: how many of the split.
        split_images: digest of the whole split.
        rows: which of the split, in the order in which they are counted, (n,) int64; None = all of it as stored.
        noisy: whether the network has weight noise.
        weights: digest of the network as it is evaluated.
        fingerprint: of the images' content.
        even: the map of the dial that `eval.dial_even` asks for.
        mix: of a pair of runs, the fitted numbers of MixedNUTS; empty where there are none.
        between: of a pair of runs, how the statistics of interpolated weights are estimated, and on which images.
    """

    run_path: Path
    keep_path: Path
    config: Config
    campaign: Campaign
    strengths: dict[str, AttackConfig]
    epoch: int
    points: tuple[OperatingPoint, ...]
    width_mults: tuple[float, ...]
    widths: tuple[int, ...]
    examples: int
    noisy: bool
    weights: str
    fingerprint: str
    split_images: str
    rows: np.ndarray | None
    even: EvenDial | None = None
    mix: tuple[float, ...] = ()
    between: dict[str, str | int] = field(default_factory=dict)

    @property
    def attacks(self) -> tuple[Attack, ...]:
        """In the order given."""
        return attacks_of(self.campaign)

    @property
    def block_size(self) -> int:
        """Examples per block; the last may have fewer."""
        return self.config.eval.batch_size

    @property
    def blocks(self) -> int:
        """How many blocks there are."""
        return -(-self.examples // self.block_size)

    def members(self, block: int) -> np.ndarray:
        """Indices of a block's examples in the split, (n,) int64."""
        part = slice(block * self.block_size, min((block + 1) * self.block_size, self.examples))
        return np.arange(part.start, part.stop) if self.rows is None else self.rows[part]

    @property
    def images(self) -> str:
        """Digest of the set of examples, as rows hold it."""
        return image_set_digest(self.split_images, np.arange(self.examples) if self.rows is None else self.rows)

    def attack_seed(self, attack: Attack, block: int) -> int:
        """What a block's attack draws from: one seed for all stages and every point."""
        return key(self.config.seed, attack.name, block)

    def measures(self) -> Iterator[Measure]:
        """Everything that is counted on a block, each once, in the order in which it is done."""
        for width in self.widths:
            for noise in self.campaign.noise:
                yield from (self.clean(point, width, noise) for point in self.points)
                for attack in self.attacks:
                    yield from self.attacked(attack, width, noise)

    def files(self) -> dict[int, list[Path]]:
        """Of each block, the files in which it ends up."""
        folders = list(dict.fromkeys(self.folder(measure) for measure in self.measures()))
        files = {block: [self._kept(f"{f}/{self._name(block)}") for f in folders] for block in range(self.blocks)}
        return files | {0: [*self.sentinel_files().values(), *files[0]]}

    def sentinel_files(self) -> dict[tuple[OperatingPoint, int], Path]:
        """Of each (point, width), where the sentinel's report on masked gradients lies; who counts block 0 writes it.

        None where `eval.sentinel` is off or nothing is attacked.
        """
        settings, found = self.config.eval, dict[tuple[OperatingPoint, int], Path]()
        if settings.sentinel == "off" or not self.attacks:
            return found
        for width in self.widths:
            for point in self.points:
                clean = self.identity(self.clean(point, width, "fixed"))
                learnt = asdict(self.config.attack)  # held against many steps since checks 2
                decides = [clean, asdict(settings.attack), self.examples, ORDER, "checks 2", learnt]
                of_width = f"-width{self.width_mults[width]:g}" if len(self.width_mults) > 1 else ""
                words = f"sentinel-{point.slug}{of_width}"
                found[point, width] = self._kept(f"{words}-{_digest(decides)}.json")
        return found

    def clean(self, place: PointLike, width: int, noise: str) -> Measure:
        """Answers without attack."""
        point = as_point(place)
        return Measure(None, point, width, "fixed" if noise == "fixed" else "fresh", point)

    def attacked(self, attack: Attack, width: int, noise: str) -> list[Measure]:
        """What one attack is counted on; attacks from one point stand together."""
        threats, own, pairs = self.campaign.threat, [], []
        if "adaptive" in threats or "worst" in threats:
            own = [(point, point) for point in self.points]
        if "transfer" in threats or "worst" in threats:
            pairs = [(source, point) for source in self.sources for point in self.points if source != point]
        return [Measure(attack, point, width, noise, source) for source, point in [*own, *pairs]]

    @property
    def sources(self) -> tuple[OperatingPoint, ...]:
        """The points at which attacks that transfer are optimised."""
        return tuple(map(OperatingPoint, self.campaign.attack_lam)) or self.points

    def draws(self, attack: Attack | None, noise: str) -> int:
        """How many draws of the noise an attacker averages over."""
        if attack is not None and attack.ranks_draws and noise != "fixed":
            return self.campaign.eot_draws
        if noise != "eot":
            return 1
        return attack.eot_draws if attack is not None and attack.eot_draws > 1 else self.campaign.eot_draws

    def file(self, measure: Measure, block: int) -> Path:
        """Where a block's outcome lies."""
        return self._kept(f"{self.folder(measure)}/{self._name(block)}")

    def _name(self, block: int) -> str:
        return outcomes.file_name(block, len(self.members(block)))

    def _kept(self, name: str) -> Path:
        """A file of outcomes: where it is already, else where this evaluation keeps its own."""
        there = self.run_path / FOLDER / name
        return there if self.keep_path == self.run_path or there.exists() else self.keep_path / FOLDER / name

    def folder(self, measure: Measure) -> str:
        """Readable, and told apart by everything that decides an outcome."""
        words = [measure.attack.name if measure.attack else "clean", measure.point.slug]
        words += [f"from{_number(measure.source)}"] if measure.source != measure.point else []
        words += [f"width{self.width_mults[measure.width]:g}"] if len(self.width_mults) > 1 else []
        words += [measure.noise] if self.noisy else []
        plain = re.sub(r"[^\w.-]+", "_", "-".join(words))
        return f"{plain}-{_digest(self.identity(measure))}"

    def identity(self, measure: Measure) -> dict[str, Any]:
        """Everything that decides the outcomes of a measure, as plain values."""
        attack, point, source = measure.attack, measure.point, measure.source
        # Outcomes of older versions, in which a lucky draw ended the search, are not taken for these.
        ranked = {"ranked_by": "mean loss"} if attack and attack.ranks_draws and measure.noise != "fixed" else {}
        return ranked | {
            "weights": self.weights,
            "epoch": self.epoch,
            "split": self.campaign.split,
            "data": self.fingerprint,
            "lam": point.lam,
            **({"blend": point.blend, "blend_t": point.t} if point.blend else {}),
            "width": self.width_mults[measure.width],
            "attack": attack.name if attack else "none",
            "strength": asdict(self.strengths[attack.name]) if attack else {},
            "attack_lam": source.lam,
            **({"attack_blend": source.blend, "attack_blend_t": source.t} if source.blend else {}),
            # Fitted beside the weights, and perhaps again; and how many more networks such a mix is attacked through.
            **({"mix": list(self.mix)} if "mixednuts" in (point.blend, source.blend) else {}),
            **({"statistics": self.between} if self.between and "weights" in (point.blend, source.blend) else {}),
            **({"stand_ins": NUM_SURROGATES["mixednuts"]} if attack and source.blend == "mixednuts" else {}),
            "noise": measure.noise if self.noisy else "none",
            "noise_seed": self.config.eval.noise_seed if self.noisy else 0,
            "eot_draws": self.draws(attack, measure.noise) if attack else 1,
            "seed": self.config.seed,
            "block_size": self.block_size,
            "precision": "float32",
            # Examples as stored were counted before there was another order: their outcomes keep their names.
            **({} if self.rows is None else {"order": ORDER}),
        }


def _number(source: OperatingPoint) -> str:
    return source.slug if source.blend else f"{source.lam:g}"


def _digest(values: Any) -> str:
    return hashlib.blake2b(json.dumps(values, sort_keys=True).encode(), digest_size=5).hexdigest()
