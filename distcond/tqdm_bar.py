"""A tqdm bar where one can be shown: on a terminal, and as a widget in a notebook."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import Any


def make_bar(**options: Any) -> Any:
    """A bar with tqdm's `options` on standard error, as a widget in a notebook; None where neither can be shown.

    That is without a terminal, without tqdm, and in a notebook without ipywidgets: there, lines are better.
    """
    if in_notebook():
        if find_spec("ipywidgets") is None or find_spec("tqdm") is None:
            return None
        from tqdm.notebook import tqdm as notebook_tqdm

        return notebook_tqdm(**options)
    if not sys.stderr.isatty():
        return None
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    return tqdm(file=sys.stderr, dynamic_ncols=True, **options)


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None and hasattr(ipython, "get_ipython") else None
    return getattr(shell, "kernel", None) is not None
