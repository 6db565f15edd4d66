"""Manifests as text: a template with its parts put in, and every `${name}` replaced by that value as JSON.

JSON is YAML too, so that no value needs quoting and none can change what stands around it.
"""

from __future__ import annotations

import json
import re
import shlex
import textwrap
import tomllib
from collections.abc import Mapping
from pathlib import Path
from string import Template

from distcond.errors import ConfigError

HERE = Path(__file__).parent
TEMPLATES = HERE / "templates"
Value = str | int | list[str]

_PART = re.compile(r"^( *(?:- )?)([\w-]+): \$\{(_\w+\.yaml)\}$", re.MULTILINE)


def manifests() -> list[str]:
    """The names of what can be rendered: templates, without the parts that these share."""
    return sorted(path.stem for path in TEMPLATES.glob("[!_]*.yaml"))


def defaults() -> dict[str, Value]:
    """`values.toml`."""
    return tomllib.loads((HERE / "values.toml").read_text())


def render(manifest: str, values: Mapping[str, Value]) -> str:
    """The YAML text of a manifest.

    Raises:
        ConfigError: values that the cluster would refuse, or not understand.
    """
    _check(values)
    arguments = [*_words(values["places"]), *_words(values["settings"])]
    derived = {"arguments": arguments, "entrypoint": shlex.join([*_words(values["command"]), *arguments])}
    # No class means the cluster's default one; an empty class would mean none at all.
    derived["storage_class"] = values["storage_class"] or None  # type: ignore[assignment]
    written = {name: json.dumps(value) for name, value in {**values, **derived}.items()}
    return Template(_with_parts(f"{manifest}.yaml")).substitute(written)


def _with_parts(name: str) -> str:
    def put_in(found: re.Match[str]) -> str:
        indent, key, part = found.groups()
        return f"{indent}{key}:\n{textwrap.indent(_with_parts(part).rstrip(), ' ' * (len(indent) + 2))}"

    return _PART.sub(put_in, (TEMPLATES / name).read_text())


def _check(values: Mapping[str, Value]) -> None:
    name, least, most = values["name"], values["min_workers"], values["max_workers"]
    assert isinstance(name, str) and isinstance(least, int) and isinstance(most, int)
    if not re.fullmatch(r"[a-z]([a-z0-9-]{0,45}[a-z0-9])?", name):
        raise ConfigError(f"name={name}: valid: up to 47 of a-z, 0-9 and '-', from a letter to a letter or digit")
    if not 1 <= least <= most:
        raise ConfigError(f"min_workers={least}: valid: 1 to max_workers={most}")


def _words(value: Value) -> list[str]:
    assert isinstance(value, list)
    return value
