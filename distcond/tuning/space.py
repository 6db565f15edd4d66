"""A search space: a question, a recipe, and the settings that vary. Read from TOML, or a function of one's own."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import distcond
from distcond.config.overrides import resolve
from distcond.config.schema import Config
from distcond.errors import ConfigError
from distcond.registry import describe_unknown
from distcond.tuning.axis import Axis, read_axis

_WORDS = ("question", "recipe", "trials", "cost", "sweep", "space", "small")


@dataclass(frozen=True)
class Space:
    """What varies and around what.

    Attributes:
        name: of the file, or `module:function`.
        question: what the sweep is to answer.
        recipe: whose settings hold where nothing else is said.
        trials: how many runs the question takes.
        cost: of those, as a phrase.
        axes: what varies, in the order in which it is drawn.
        fixed: settings over the recipe that do not vary.
        options: options of the sweep that the space sets, such as scheduler.
        function: in place of axes, `module:function`.
    """

    name: str
    question: str
    recipe: str
    trials: int
    cost: str = ""
    axes: tuple[Axis, ...] = ()
    fixed: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    function: str = ""

    def config(self, params: Mapping[str, Any]) -> Config:
        """The config of one proposal.

        Raises:
            ConfigError: it is none.
        """
        return resolve(self.recipe, {**self.fixed, **params})

    def axis(self, path: str) -> Axis:
        """The axis of a setting."""
        return next(axis for axis in self.axes if axis.path == path)

    def to_plain(self) -> dict[str, Any]:
        """As stored in `sweep.json`."""
        axes = {axis.path: axis.to_plain() for axis in self.axes}
        return {**vars(self), "axes": axes, "fixed": dict(self.fixed), "options": dict(self.options)}


def from_plain(plain: Mapping[str, Any]) -> Space:
    """The space of `Space.to_plain`."""
    axes = tuple(read_axis(path, entry) for path, entry in plain["axes"].items())
    return Space(**{**plain, "axes": axes})


def shipped() -> dict[str, Path]:
    """The spaces that come with distcond, by name."""
    package = Path(distcond.__file__).parent
    folder = next((at for at in (package / "tune_spaces", package.parent / "tune_spaces") if at.is_dir()), package)
    return {file.stem: file for file in sorted(folder.glob("*.toml"))}


def find_space(name: str, small: bool = False) -> Space:
    """A shipped space by its name, a TOML file by its path, or `module:function`.

    Args:
        name: which one.
        small: with what the file says under `[small]`: the same question where minutes have to do.

    Raises:
        ConfigError: there is none, or it cannot be read; the message names what is valid.
    """
    if name.endswith(".toml"):
        return read_space(Path(name).expanduser(), small)
    if ":" in name:
        imported(name)
        if small:
            raise ConfigError(f"budget=small: {name} has none; state settings as PATH=VALUE")
        return Space(name, "", "float_digits", 16, function=name)
    if name not in shipped():
        raise ConfigError(f"{describe_unknown('space', name, shipped())}; or a file FILE.toml, or module:function")
    return read_space(shipped()[name], small)


def read_space(file: Path, small: bool = False) -> Space:
    """The space of a TOML file; every value it can give is tried on the config.

    Raises:
        ConfigError: as `find_space`.
    """
    try:
        told = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror}); name a TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: no TOML ({error})") from error
    for word in told:
        if word not in _WORDS:
            raise ConfigError(f"{file}: {describe_unknown('word', word, _WORDS)}")
    missing = [word for word in ("question", "recipe", "trials", "space") if word not in told]
    if missing or not told["space"]:
        raise ConfigError(f"{file}: {', '.join(missing) or 'space'} is missing; see python -m distcond.tune --help")
    axes = tuple(read_axis(path, entry) for path, entry in told["space"].items())
    space = Space(
        file.stem, told["question"], told["recipe"], told["trials"], told.get("cost", ""), axes,
        options=told.get("sweep", {}),
    )  # fmt: skip
    if small:
        space = _small(space, told.get("small", {}), file)
    check_space(space)
    return space


def check_space(space: Space) -> None:
    """Try every end and every choice of the space on the config.

    Raises:
        ConfigError: the setting does not exist, or a value is beyond what it takes.
    """
    space.config({})
    for axis in space.axes:
        for needed, _ in axis.when:
            if needed not in [other.path for other in space.axes]:
                raise ConfigError(f"space {axis.path}: when {needed}: nothing of that path varies here")
        given = {path: values[0] for path, values in axis.when}
        for value in axis.values or (axis.at(0.0), int(axis.high) if axis.kind == "integer" else axis.high):
            try:
                space.config({**given, axis.path: value})
            except ConfigError as error:
                raise ConfigError(f"space {axis.path}: {error}") from error


def imported(name: str) -> Callable[..., Any]:
    """The function at `module:function`.

    Raises:
        ConfigError: there is none.
    """
    module_name, _, attribute = name.partition(":")
    try:
        function: Callable[..., Any] = getattr(import_module(module_name), attribute)
    except Exception as error:  # the module is the user's: importing it may raise anything
        raise ConfigError(f"space {name}: {type(error).__name__}: {(str(error).splitlines() or [''])[0]}") from error
    if not callable(function):
        raise ConfigError(f"space {name} is a {type(function).__name__}, not a function")
    return function


def _small(space: Space, told: Mapping[str, Any], file: Path) -> Space:
    if not told:
        raise ConfigError(f"budget=small: {file} has no [small]; valid: full")
    own = {path: value for path, value in told.items() if path not in ("recipe", "trials")}
    values = {**vars(space), "recipe": told.get("recipe", space.recipe), "trials": told.get("trials", space.trials)}
    return Space(**{**values, "fixed": own})
