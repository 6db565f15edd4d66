"""`distcond.load`: the network of a run, or of a folder that `python -m distcond.export` wrote."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import fx

from distcond.config.schema import DataConfig
from distcond.exporting.folder import is_exported, read_folder
from distcond.exporting.hub import SCHEME, pull
from distcond.models.conditional import ConditionalModel
from distcond.runs import load_run
from distcond.storage.uri import is_uri


def load(
    place: str | Path,
    checkpoint: str = "best",
    device: torch.device | str = "cpu",
    data: DataConfig | None = None,
    trust: bool = False,
) -> ConditionalModel | fx.GraphModule:
    """The network at `place`, in eval mode.

    Of a run it is the conditional network, for `AtLambda`, `AtDial` and `fold`; `.classes` are the names of the classes
    in the order of the logits, empty where they have none. Of an export it is the plain network itself, x in [0, 1]
    (N, 3, H, W) to logits (N, K). No code from the folder is run; code that a run names by module is imported only if
    nobody else may write its `config.json`, and not from the working directory.

    Args:
        place: the directory a run printed, the URI of a run, a folder of `python -m distcond.export`, or
            `hf://USER/NAME` for an export on the Hugging Face hub.
        checkpoint: of a run: "best" (on validation, by `eval.select`), "last" or "last_raw", the last weights as
            trained where the run averaged them.
        device: where to put it.
        data: of a pair of runs: where the training images lie now; unset = where they lay.
        trust: of a run: import the code that it names in any case.

    Raises:
        ConfigError: no run, checkpoint or export there, or one this version cannot read.
    """
    if str(place).startswith(SCHEME):
        return read_folder(pull(str(place)), device)
    folder = Path(place).expanduser()
    if not is_uri(str(place)) and is_exported(folder):
        return read_folder(folder, device)
    return load_run.load(place, checkpoint, device, data, trust)
