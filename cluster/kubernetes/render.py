"""Render manifests: a template with its parts inserted, and every `${name}` replaced by a value as JSON.

JSON is also YAML, so no value needs quoting or can change the text around it.
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
    """The names of all manifests: the templates without their shared parts."""
    return sorted(path.stem for path in TEMPLATES.glob("[!_]*.yaml"))


def defaults() -> dict[str, Value]:
    """The values of `values.toml`."""
    return tomllib.loads((HERE / "values.toml").read_text())


def render(manifest: str, values: Mapping[str, Value]) -> str:
    """The YAML text of a manifest.

    Raises:
        ConfigError: values that Kubernetes would refuse.
    """
    _check_values(values)
    arguments = [*_as_list(values["places"]), *_as_list(values["settings"])]
    derived = {"arguments": arguments, "entrypoint": shlex.join([*_as_list(values["command"]), *arguments])}
    # null means the cluster's default class, while an empty class would mean none.
    derived["storage_class"] = values["storage_class"] or None  # type: ignore[assignment]
    texts = {name: json.dumps(value) for name, value in {**values, **derived}.items()}
    return Template(_insert_parts(f"{manifest}.yaml")).substitute(texts)


def _insert_parts(name: str) -> str:
    def insert(match: re.Match[str]) -> str:
        indent, key, part = match.groups()
        return f"{indent}{key}:\n{textwrap.indent(_insert_parts(part).rstrip(), ' ' * (len(indent) + 2))}"

    return _PART.sub(insert, (TEMPLATES / name).read_text())


def _check_values(values: Mapping[str, Value]) -> None:
    name, least, most = values["name"], values["min_workers"], values["max_workers"]
    assert isinstance(name, str) and isinstance(least, int) and isinstance(most, int)
    if not re.fullmatch(r"[a-z]([a-z0-9-]{0,45}[a-z0-9])?", name):
        raise ConfigError(f"name={name}: valid: up to 47 of a-z, 0-9 and '-', first a letter, last no '-'")
    if not 1 <= least <= most:
        raise ConfigError(f"min_workers={least}: valid: 1 to max_workers={most}")


def _as_list(value: Value) -> list[str]:
    assert isinstance(value, list)
    return value
