"""Counts the training FLOPs of every recipe, for distcond/recipes/train_flops.py.

    python benchmarks/recipe_cost.py --write

Without --write it prints the file. The count is that of `distcond.training.flops`; it needs no data and takes seconds.
Run it after adding or changing a recipe; until then the cost is shown as not counted.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from distcond.config.overrides import resolve
from distcond.recipes import train_flops as current
from distcond.registry import table
from distcond.training.flops import train_flops

HEADER = f'''"""{current.__doc__}"""

from __future__ import annotations

TRAIN_FLOPS = {{
'''


def main() -> None:
    """Print or write the file."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--write", action="store_true", help="replace the file")
    args = arguments.parse_args()
    torch.set_num_threads(1)  # networks here are tiny
    counts = {name: train_flops(resolve(name, {})) for name in table("recipe")}
    text = HEADER + "".join(f'    "{name}": {_number(count)},\n' for name, count in counts.items()) + "}\n"
    if args.write:
        Path(current.__file__).write_text(text)
    else:
        print(text, end="")


def _number(count: float) -> str:
    """Four digits, formatted like ruff does."""
    return f"{count:.3e}".replace("e+", "e")


if __name__ == "__main__":
    main()
