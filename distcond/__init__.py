"""Train once, choose later: conditional models between accuracy and robustness.

`distcond.load(run_dir)` gives a finished run's network to Python; `AtLambda(model, 0.3)` is a plain
`x in [0, 1] -> logits` module at one lam, `AtDial(model, 0.3)` at a blend of the network's two paths, and
`fold(model, point)` is either in torch's own layers alone. `trials(sweep)` are the trials of a sweep as a pandas frame.
None needs Ray or FFCV. All of it is in `distcond.api`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["AtDial", "AtLambda", "DialNetwork", "__version__", "fold", "load", "trials"]

if TYPE_CHECKING:
    from distcond.api import AtDial, AtLambda, DialNetwork, fold, load, trials


def __getattr__(name: str) -> Any:
    """Import on first use, so that `import distcond` alone stays free of torch."""
    if name not in __all__:
        raise AttributeError(f"module 'distcond' has no attribute {name!r}")
    from distcond import api

    return getattr(api, name)
