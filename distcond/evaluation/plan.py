"""The whole of an evaluation, laid out: which blocks, what is counted on each, and where every outcome lies.

Made once, by the process that speaks for the evaluation, and handed to those that count. Work that is done is what
lies in its file, so a plan carried out again goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from distcond.attacks.attack import EARLIER_NAMES, Attack
from distcond.attacks.starts import Seeds, example_seeds
from distcond.config.schema import AttackConfig, Config
from distcond.data.splits import image_set_digest
from distcond.evaluation import outcomes
from distcond.evaluation.layout import Blocks
from distcond.evaluation.spec import EvalSpec, attacks_of
from distcond.models.dial import NUM_SURROGATES
from distcond.operating_point import OperatingPoint, PointLike, as_point
from distcond.run_layout import OUTCOMES_DIR
from distcond.runs.even_dial import EvenDial

#: Names `distcond.data.subset.stratified_order`: blocks hold the same examples for every budget, the last one aside.
ORDER = "stratified-1"
#: Names the law of random starts, `distcond.attacks.starts`. Earlier versions drew those of a block together.
STARTS = "example-1"


class EvalCell(NamedTuple):
    """One thing counted on every block: answers at a point under an attack optimised at `source`.

    `attack` is None for clean images; then `source` is the point, and `noise` is "fixed", or "fresh" for "eot" too.
    """

    attack: Attack | None
    point: OperatingPoint
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
class EvalPlan:
    """An evaluation of one network.

    Attributes:
        run_path: the run that is looked at.
        keep_path: where outcomes and rows are kept: in the run's directory, unless it cannot be written.
        spec: what is counted.
        strengths: name of each attack to what it uses.
        points: where answers are counted, each with its width and draw of the noise.
        width_mults: the network's widths, widest first.
        layout: which examples, in which blocks.
        noisy: whether the network has weight noise.
        weights: digest of the network as it is evaluated.
        fingerprint: of the images' content.
        split_images: digest of the whole split.
        even: the map of the dial that `eval.dial_even` asks for.
        mix: of a pair of runs, the fitted numbers of MixedNUTS; empty where there are none.
        between: of a pair of runs, how the statistics of interpolated weights are estimated, and on which images.
        precision: number format, "float32" but for validation (`precision.validation`).
    """

    run_path: Path
    keep_path: Path
    config: Config
    spec: EvalSpec
    strengths: dict[str, AttackConfig]
    epoch: int
    points: tuple[OperatingPoint, ...]
    width_mults: tuple[float, ...]
    layout: Blocks
    noisy: bool
    weights: str = ""
    fingerprint: str = ""
    split_images: str = ""
    even: EvenDial | None = None
    mix: tuple[float, ...] = ()
    between: dict[str, str | int] = field(default_factory=dict)
    precision: str = "float32"

    @property
    def attacks(self) -> tuple[Attack, ...]:
        """In the order given."""
        return attacks_of(self.spec)

    @property
    def examples(self) -> int:
        """How many of the split."""
        return self.layout.examples

    @property
    def block_size(self) -> int:
        """Examples per block; the last may have fewer."""
        return self.layout.block_size

    @property
    def blocks(self) -> int:
        """How many blocks there are."""
        return len(self.layout)

    def members(self, block: int) -> np.ndarray:
        """Indices of a block's examples in the split, (n,) int64."""
        return self.layout.members(block)

    @property
    def images(self) -> str:
        """Digest of the set of examples, as rows hold it; "" where that of the split is not known."""
        return image_set_digest(self.split_images, self.layout.all()) if self.split_images else ""

    def seeds(self, block: int) -> Seeds:
        """What attacks on a block's examples draw from, whatever the attack and wherever it is made."""
        return example_seeds(self.config.seed, self.members(block))

    def point(self, place: PointLike, width: float = 1.0) -> OperatingPoint:
        """A place as this evaluation looks at it: at a width and its draw of the noise."""
        return as_point(place)._replace(width=width, noise_seed=self.config.eval.noise_seed if self.noisy else 0)

    def at_width(self, width: float) -> EvalPlan:
        """The same evaluation at one width alone."""
        return replace(self, points=tuple(point for point in self.points if point.width == width))

    def cells(self) -> Iterator[EvalCell]:
        """Everything that is counted on a block, each once, in the order in which it is done."""
        for noise in self.spec.noise:
            yield from (self.clean(point, noise) for point in self.points)
            for attack in self.attacks:
                yield from self.attacked(attack, noise)

    def files(self) -> dict[int, list[Path]]:
        """Of each block, the files in which it ends up."""
        folders = list(dict.fromkeys(self.folder(cell) for cell in self.cells()))
        files = {block: [self._kept(f"{f}/{self._name(block)}") for f in folders] for block in range(self.blocks)}
        return files | {0: [*self.sentinel_files().values(), *files[0]]}

    def sentinel_files(self) -> dict[OperatingPoint, Path]:
        """Of each point, where the sentinel's report on masked gradients lies; who counts block 0 writes it.

        None where `eval.sentinel` is off or nothing is attacked.
        """
        settings, found = self.config.eval, dict[OperatingPoint, Path]()
        if settings.sentinel == "off" or not self.attacks:
            return found
        for point in self.points:
            clean = self.identity(self.clean(point, "fixed"))
            learnt = asdict(self.config.attack)  # held against many steps since checks 2
            decides = [clean, asdict(settings.attack), self.examples, ORDER, "checks 2", learnt]
            of_width = f"-width{point.width:g}" if len(self.width_mults) > 1 else ""
            found[point] = self._kept(f"sentinel-{point.slug}{of_width}-{_digest(decides)}.json")
        return found

    def clean(self, point: OperatingPoint, noise: str) -> EvalCell:
        """Answers without attack."""
        return EvalCell(None, point, "fixed" if noise == "fixed" else "fresh", point)

    def attacked(self, attack: Attack, noise: str) -> list[EvalCell]:
        """What one attack is counted on; attacks from one point stand together."""
        threats, own, pairs = self.spec.threat, [], []
        if "adaptive" in threats or "worst" in threats:
            own = [(point, point) for point in self.points]
        if "transfer" in threats or "worst" in threats:
            of_width = [(source, point) for source in self.sources for point in self.points]
            pairs = [(source, point) for source, point in of_width if source != point and source.width == point.width]
        return [EvalCell(attack, point, noise, source) for source, point in [*own, *pairs]]

    @property
    def sources(self) -> tuple[OperatingPoint, ...]:
        """The points at which attacks that transfer are optimised, at every width."""
        if not self.spec.attack_lam:
            return self.points
        return tuple(dict.fromkeys(point.at_lam(lam) for lam in self.spec.attack_lam for point in self.points))

    def draws(self, attack: Attack | None, noise: str) -> int:
        """How many draws of the noise an attacker averages over."""
        if attack is not None and attack.ranks_draws and noise != "fixed":
            return self.spec.eot_draws
        if noise != "eot":
            return 1
        return attack.eot_draws if attack is not None and attack.eot_draws > 1 else self.spec.eot_draws

    def file(self, cell: EvalCell, block: int) -> Path:
        """Where a block's outcome lies."""
        return self._kept(f"{self.folder(cell)}/{self._name(block)}")

    def _name(self, block: int) -> str:
        return outcomes.file_name(block, len(self.members(block)))

    def _kept(self, name: str) -> Path:
        """A file of outcomes: where it is already, else where this evaluation keeps its own."""
        there = self.run_path / OUTCOMES_DIR / name
        return there if self.keep_path == self.run_path or there.exists() else self.keep_path / OUTCOMES_DIR / name

    def folder(self, cell: EvalCell) -> str:
        """Readable, and told apart by everything that decides an outcome."""
        parts = [cell.attack.name if cell.attack else "clean", cell.point.slug]
        parts += [f"from{_number(cell.source)}"] if cell.source != cell.point else []
        parts += [f"width{cell.point.width:g}"] if len(self.width_mults) > 1 else []
        parts += [cell.noise] if self.noisy else []
        plain = re.sub(r"[^\w.-]+", "_", "-".join(parts))
        return f"{plain}-{_digest(self.identity(cell))}"

    def identity(self, cell: EvalCell) -> dict[str, Any]:
        """Everything that decides the outcomes of a cell, as plain values."""
        attack, point, source = cell.attack, cell.point, cell.source
        # Outcomes of older versions, in which a lucky draw ended the search, are not taken for these.
        ranked = {"ranked_by": "mean loss"} if attack and attack.ranks_draws and cell.noise != "fixed" else {}
        return ranked | {
            "weights": self.weights,
            "epoch": self.epoch,
            "split": self.spec.split,
            "data": self.fingerprint,
            "lam": point.lam,
            **({"blend": point.blend, "blend_t": point.t} if point.blend else {}),
            "width": point.width,
            "attack": attack.name if attack else "none",
            "strength": asdict(self.strengths[attack.name]) if attack else {},
            # Clean answers of earlier versions stand; attacks begin elsewhere now.
            **({"starts": STARTS} if attack else {}),
            "attack_lam": source.lam,
            **({"attack_blend": source.blend, "attack_blend_t": source.t} if source.blend else {}),
            # Fitted beside the weights, and perhaps again; and how many more networks such a mix is attacked through.
            **({"mix": list(self.mix)} if "mixednuts" in (point.blend, source.blend) else {}),
            **({"statistics": self.between} if self.between and "weights" in (point.blend, source.blend) else {}),
            **({"stand_ins": NUM_SURROGATES["mixednuts"]} if attack and source.blend == "mixednuts" else {}),
            "noise": cell.noise if self.noisy else "none",
            "noise_seed": point.noise_seed if self.noisy else 0,
            "eot_draws": self.draws(attack, cell.noise) if attack else 1,
            "seed": self.config.seed,
            "block_size": self.block_size,
            "precision": self.precision,
            # Examples as stored were counted before there was another order: their outcomes keep their names.
            **({} if self.layout.rows is None else {"order": ORDER}),
        }

    def outdated(self) -> bool:
        """Whether attacks of this evaluation were made by an earlier version, from other random starts."""
        names = {attack.name for attack in self.attacks}
        names |= {earlier for earlier, now in EARLIER_NAMES.items() if now in names}
        found = (
            file for place in {self.run_path, self.keep_path} for file in (place / OUTCOMES_DIR).glob("*/settings.json")
        )
        return any(_is_outdated(file, self.weights, names) for file in found)


def _is_outdated(file: Path, weights: str, names: Iterable[str]) -> bool:
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
        return settings["weights"] == weights and settings["attack"] in names and "starts" not in settings
    except (OSError, ValueError, TypeError, KeyError):
        return False


def _number(source: OperatingPoint) -> str:
    return source.slug if source.blend else f"{source.lam:g}"


def _digest(values: Any) -> str:
    return hashlib.blake2b(json.dumps(values, sort_keys=True).encode(), digest_size=5).hexdigest()
