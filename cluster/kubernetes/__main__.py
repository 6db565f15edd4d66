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

The arguments after -- are those of distcond.train, and are checked. The values of values.toml:
"""


def main(argv: Sequence[str]) -> int:
    """Print a manifest. Returns the exit status.

    Raises:
        ConfigError: no such manifest, value or setting.
    """
    args, settings = _split_args(list(argv))
    if not args or {"-h", "--help"} & set(args):
        print(_usage())
        return 0
    if args[0] not in manifests():
        raise ConfigError(f"{args[0]}: no such manifest; valid: {', '.join(manifests())}")
    values = defaults() | ({"settings": settings} if settings else {})
    for arg in args[1:]:
        name, equals, text = arg.partition("=")
        if not equals or name not in values:
            raise ConfigError(f"{arg}: not NAME=VALUE of a known name; valid: {', '.join(values)}")
        values[name] = _parse_value(name, text, values[name])
    parse([*values["places"], *values["settings"]])  # type: ignore[misc]
    print(render(args[0], values), end="")
    return 0


def _split_args(argv: list[str]) -> tuple[list[str], list[str]]:
    cut = argv.index("--") if "--" in argv else len(argv)
    return argv[:cut], argv[cut + 1 :]


def _parse_value(name: str, text: str, default: Value) -> Value:
    if isinstance(default, list):
        return shlex.split(text)
    if isinstance(default, str):
        return text
    if not text.isdecimal():
        raise ConfigError(f"{name}={text}: valid: a whole number")
    return int(text)


def _usage() -> str:
    lines = [f"  {name:<18} {shlex.join(v) if isinstance(v, list) else v}" for name, v in defaults().items()]
    return _USAGE.format(manifests=", ".join(manifests())) + "\n" + "\n".join(lines)


if __name__ == "__main__":
    run_cli(lambda: main(sys.argv[1:]))
