"""Print a manifest: `python -m cluster.kubernetes MANIFEST [NAME=VALUE ...] [-- RECIPE PATH=VALUE ...]`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence

from cluster.kubernetes.render import Value, defaults, manifests, render
from distcond.config.command_line import parse, run_cli
from distcond.errors import ConfigError

_USAGE = """\
usage: python -m cluster.kubernetes MANIFEST [NAME=VALUE ...] [-- RECIPE PATH=VALUE ...]

Print a manifest for kubectl. MANIFEST is one of: {manifests}

  python -m cluster.kubernetes storage storage_class=fast | kubectl apply -f -
  python -m cluster.kubernetes ray_job image=REGISTRY/distcond:0.1.0-cuda -- oat_svhn_wrn16_8 data.root=/storage/svhn
  python -m cluster.kubernetes job worker_gpus=4 | kubectl apply -f -

What follows -- is the command line of distcond.train, and checked like that one. The values of values.toml:
"""


def main(argv: Sequence[str]) -> int:
    """Print what was asked for.

    Raises:
        ConfigError: no such manifest, value or setting.
    """
    words, settings = _split(list(argv))
    if not words or {"-h", "--help"} & set(words):
        print(_usage())
        return 0
    if words[0] not in manifests():
        raise ConfigError(f"{words[0]}: no such manifest; valid: {', '.join(manifests())}")
    values = defaults() | ({"settings": settings} if settings else {})
    for word in words[1:]:
        name, equals, text = word.partition("=")
        if not equals or name not in values:
            raise ConfigError(f"{word}: not NAME=VALUE of a known name; valid: {', '.join(values)}")
        values[name] = _read(name, text, values[name])
    parse([*values["places"], *values["settings"]])  # type: ignore[misc]
    print(render(words[0], values), end="")
    return 0


def _split(argv: list[str]) -> tuple[list[str], list[str]]:
    cut = argv.index("--") if "--" in argv else len(argv)
    return argv[:cut], argv[cut + 1 :]


def _read(name: str, text: str, like: Value) -> Value:
    if isinstance(like, list):
        return shlex.split(text)
    if isinstance(like, str):
        return text
    if not text.isdecimal():
        raise ConfigError(f"{name}={text}: valid: a whole number")
    return int(text)


def _usage() -> str:
    lines = [f"  {name:<18} {shlex.join(v) if isinstance(v, list) else v}" for name, v in defaults().items()]
    return _USAGE.format(manifests=", ".join(manifests())) + "\n" + "\n".join(lines)


if __name__ == "__main__":
    run_cli(lambda: main(sys.argv[1:]))
