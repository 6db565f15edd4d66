"""Labels: attacks, threat models, noise, blends, pairs of runs and numbers as text."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from distcond.config.schema import AttackConfig, Config
from distcond.results.row import Attack, Row
from distcond.run_layout import PAIR_FILE
from distcond.terminal_text import printable_line

ATTACK_NAMES = {
    "fgsm": "FGSM",
    "pgd": "PGD",
    "pgd-last": "PGD-last",
    "apgd": "APGD",
    "apgd-ce": "APGD-CE",
    "apgd-dlr": "APGD-DLR",
    "apgd-t": "APGD-T",
    "autoattack": "AutoAttack",
    "autoattack-rand": "AutoAttack-rand",
    "fab": "FAB",
    "fab-t": "FAB-T",
    "square": "Square",
    "cw": "CW",
}


def pixel_fraction(value: float) -> str:
    """A length in [0, 1]: "8/255" if it is a multiple of 1/255, otherwise a decimal.

    Multiples of 51/255 are written as the short decimals 0.2, 0.4 ... 1.
    """
    levels = round(value * 255)
    # 1e-4 of a level: wide enough for float32, far too narrow for a step size of 1.43/255.
    if abs(value * 255 - levels) < 1e-4 and levels % 51:
        return f"{levels}/255"
    return f"{value:.4g}"


def attack_name(attack: Attack) -> str:
    """The name with its number of steps, such as "PGD-20".

    AutoAttack with its standard 100 steps is "AutoAttack"; an attack that cannot move an image is "no attack (PGD)".
    """
    name = ATTACK_NAMES.get(attack.name, attack.name)
    if _is_no_attack(attack):
        return f"no attack ({name})"
    if attack.name.startswith("autoattack") and attack.num_steps == 100:  # the standard protocol
        return name
    return f"{name}-{attack.num_steps}" if attack.num_steps else name


def _is_no_attack(attack: Attack) -> bool:
    """Whether the attack cannot move an image. Such attacks are refused now, but older rows have them."""
    has_step_size = attack.name in ("pgd", "pgd-last", "cw")
    known = attack.name in ATTACK_NAMES
    return (known and not attack.epsilon) or (has_step_size and not (attack.num_steps and attack.step_size))


def attack_label(attack: Attack) -> str:
    """The attack with its settings: "PGD-20 Linf eps=8/255 step=2/255 restarts=1 float32"."""
    parts = [attack_name(attack), attack.norm, f"eps={pixel_fraction(attack.epsilon)}"]
    parts += [f"step={pixel_fraction(attack.step_size)}"] if attack.step_size else []
    parts += [f"restarts={attack.restarts}"] if attack.restarts else []
    # Only for attacks that usually start at random, which one-step attacks and those with their own start do not.
    parts += ["from the image"] if attack.random_start == 0 and attack.step_size and attack.num_steps > 1 else []
    return " ".join(part for part in [*parts, attack.precision] if part)


def threat_model(config: Config) -> str:
    """The attacks of training and evaluation in one line."""
    training, evaluation = _pgd("pgd", config.attack), _pgd(config.eval.attack_name, config.eval.attack)
    trained = f"trained under {training}" if trains_on_attacks(config) else "trained on clean images"
    return f"{trained}, tested under {evaluation}"


def trains_on_attacks(config: Config) -> bool:
    """Whether training uses adversarial images."""
    return config.method.name != "standard" and getattr(config.sampler, "lam", None) != 0


def _pgd(name: str, attack: AttackConfig) -> str:
    strength = (attack.norm, attack.epsilon, attack.step_size, attack.num_steps)
    return attack_label(Attack(name, *strength, 0, "", int(attack.random_start)))


def noise_label(noise_mode: str, draws: int, eot_draws: int = 1) -> str:
    """The noise as text: "no noise", "noise fixed", "noise fixed, 3 draws" or "noise eot over 20 draws"."""
    if noise_mode == "none":
        return "no noise"
    averaged = f" over {eot_draws} draws" if noise_mode == "eot" or eot_draws > 1 else ""
    return f"noise {noise_mode}{averaged}" + (f", {draws} draws" if draws > 1 else "")


def blend_label(blend: str, lam: float, pair: bool = False) -> str:
    """What a curve blends, as text: the two paths of one network or the two runs of a `pair`; "" if it varies lam."""
    if not blend:
        return ""
    if pair and blend == "weights":
        return f"blend of raw weights with new statistics, t from lam 0 to lam {lam:.3g}"
    what = {"mixednuts": "MixedNUTS mix", "folded": "blend of folded weights"}.get(blend, f"blend of {blend}")
    return f"{what}, t from lam 0 to lam {lam:.3g}"


def threat_label(threat: str, attack_lam: float) -> str:
    """What the attacker knows, as text; "" for the adaptive attacker, who knows lam."""
    if threat == "transfer":
        return f"optimised at lam {attack_lam:g}"
    return "optimised at every lam, the worst counts" if threat == "worst" else ""


def images_label(row: Row) -> str:
    """The evaluated examples: "n = 60 (a1b2c3)"."""
    return f"n = {row.num_examples} ({row.images[:6]})" if row.images else f"the first {row.num_examples}"


def align_decimals(values: Iterable[float]) -> list[str]:
    """Numbers with the same number of decimals, the largest that any needs: 1 to 4."""
    values = list(values)
    decimals = max((len(f"{value:.4f}".rstrip("0").split(".")[1]) for value in values), default=1)
    return [f"{value:.{max(decimals, 1)}f}" for value in values]


def align_columns(columns: Sequence[Sequence[str]], header_lines: int) -> list[str]:
    """The lines of a table with right-aligned columns and a rule below the header."""
    sizes = [max(map(len, column)) for column in columns]
    rows = [*zip(*columns, strict=True)]
    rows.insert(header_lines, tuple("-" * size for size in sizes))
    return ["  ".join(cell.rjust(size) for cell, size in zip(cells, sizes, strict=True)) for cells in rows]


def wrap_facts(line: str, width: int = 80) -> str:
    """Facts joined by " | ", with line breaks in place of bars where a line would exceed `width`."""
    lines = [""]
    for fact in line.split(" | "):
        longer = f"{lines[-1]} | {fact}" if lines[-1] else fact
        lines = [*lines[:-1], longer] if len(longer) <= width or not lines[-1] else [*lines, fact]
    return "\n".join(lines)


def format_duration(seconds: float) -> str:
    """A duration: "41 s", "55 min" or "12.3 h"."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def format_confidence(confidence: float) -> str:
    """A confidence in [0, 1] as text: "93 %"; never 0 % or 100 %, which no sample can give."""
    if confidence > 0.995:
        return "more than 99 %"
    return "less than 1 %" if confidence < 0.005 else f"{100 * confidence:.0f} %"


def checkpoint_label(row: Row) -> str:
    """The checkpoint of a row, such as "best checkpoint"."""
    if row.checkpoint == "each":
        return "best checkpoint of each point and metric"
    return f"{row.checkpoint} checkpoint"


#: `method` in the rows of a pair.
PAIR_METHOD = "pair"


def name_pairs(rows: Iterable[Row], run_dir: Path) -> list[Row]:
    """The rows of a run. In those of a pair, `method` names both runs: "pair: standard s1 + trades s0"."""
    rows = list(rows)
    if not any(row.method == PAIR_METHOD for row in rows):
        return rows
    both = _pair_names(run_dir / PAIR_FILE)
    return [
        replace(row, method=f"{PAIR_METHOD}: {both}") if both and row.method == PAIR_METHOD else row for row in rows
    ]


def is_pair(method: str) -> bool:
    """Whether a row's method, with or without `name_pairs`, is that of a pair."""
    return method == PAIR_METHOD or method.startswith(f"{PAIR_METHOD}: ")


def _pair_names(file: Path) -> str:
    """Methods and seeds of both runs; "" without a readable record, since rows can be reported without it."""
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        names = (f"{record[end]['method']} s{record[end]['seed']}" for end in ("standard", "robust"))
        return printable_line(" + ".join(names))
    except (OSError, ValueError, TypeError, KeyError):
        return ""
