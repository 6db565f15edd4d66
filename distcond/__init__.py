"""Train once, choose later: conditional models between accuracy and robustness.

    import distcond

    run = distcond.train("float_digits")  # or distcond.Run("runs/RUN")
    run.curve()  # standard and robust accuracy along the dial, a data frame
    network = run.network(0.5)  # a plain module: x in [0, 1] -> logits; 0 = most accurate, 1 = most robust

`load(PATH)` is the network of a run or of an export, `AtDial(model, dial)` and `AtLambda(model, lam)` are plain modules
at one operating point, and `fold(model, point)` is one in torch's own layers. `evaluate` measures a run under other
attacks, `export` writes plain networks, `trials(sweep)` are the trials of a sweep. All of it is in `distcond.api`.

`train`, `evaluate` and `export` are also modules with the commands (`python -m distcond.train`), which can be called.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

# OpenMP reads it when torch loads, so it is set here; see `distcond/launch/threads.py`.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

__version__ = "0.1.0"
__all__ = [
    "AtDial",
    "AtLambda",
    "ConfigError",
    "DialNetwork",
    "OperatingPoint",
    "Run",
    "__version__",
    "evaluate",
    "export",
    "fold",
    "list_attacks",
    "list_datasets",
    "list_methods",
    "list_models",
    "list_recipes",
    "load",
    "train",
    "trials",
]

if TYPE_CHECKING:
    from distcond.api import (
        AtDial,
        AtLambda,
        ConfigError,
        DialNetwork,
        OperatingPoint,
        Run,
        evaluate,
        export,
        fold,
        list_attacks,
        list_datasets,
        list_methods,
        list_models,
        list_recipes,
        load,
        train,
        trials,
    )

#: Names of both a function of the API and a module with a command.
_COMMANDS = ("train", "evaluate", "export")


class _CallableModule(ModuleType):
    """The module of a command, which is also the function of its name in `distcond.api`."""

    @property
    def __wrapped__(self) -> Any:  # also where `inspect.signature` looks
        from distcond import api

        return getattr(api, self.__name__.rpartition(".")[2])

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The function of this name in `distcond.api`."""
        return self.__wrapped__(*args, **kwargs)

    def __reduce__(self) -> Any:
        return import_module, (self.__name__,)


class _Package(ModuleType):
    """This package. `import distcond.train`, by anyone, makes the name `distcond.train` that module."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _COMMANDS and isinstance(value, ModuleType):
            value.__class__ = _CallableModule
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    """Import on first use, so that `import distcond` alone stays free of torch."""
    if name in _COMMANDS:
        return import_module(f"distcond.{name}")
    if name not in __all__:
        raise AttributeError(f"module 'distcond' has no attribute {name!r}")
    from distcond import api

    return getattr(api, name)
