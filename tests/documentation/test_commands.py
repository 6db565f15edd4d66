"""Every command in README.md and docs/ is one that exists: distcond's own go through the parsers of the commands.

A block with other programs says why no test runs them: `<!-- not run: REASON -->` on the line before the fence.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from distcond.config import command_line
from distcond.config.overrides import apply_overrides, resolve
from support.doc_blocks import ROOT, Block, blocks, commands, distcond_call

SHELL = blocks("sh", "bash", "shell", "console")
CALLS = [(block, *call) for block in SHELL for words in commands(block.text) if (call := distcond_call(words))]
OTHERS = [(block, words) for block in SHELL for words in commands(block.text) if not distcond_call(words)]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
TARGETS = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize(("block", "module", "argv"), CALLS, ids=[f"{b.name}-{m}" for b, m, _ in CALLS])
def test_commands_of_distcond_parse(block: Block, module: str, argv: list[str], home: Path) -> None:
    with suppress(SystemExit):  # --help and --list
        PARSERS[module](argv)


@pytest.mark.parametrize(("block", "words"), OTHERS, ids=[f"{b.name}-{w[0]}" for b, w in OTHERS])
def test_other_commands_exist_or_have_a_reason(block: Block, words: list[str]) -> None:
    assert block.reason or _exists(words), f"{block.name}: {' '.join(words)}: write <!-- not run: REASON --> above"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home and working directory with the folder of images that the pages call FOLDER."""
    for image in ("train/a/1.png", "train/b/2.png", "test/a/3.png", "test/b/4.png"):
        (tmp_path / "FOLDER" / image).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(tmp_path / "FOLDER" / image)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _exists(words: list[str]) -> bool:
    """Whether a command is of a kind that can be checked without running it, and right."""
    if words[0] == "make":
        return words[-1] in TARGETS
    if words[0] in ("pip", "uv"):
        wanted = [extra for word in words for extra in re.findall(r"\[(.+)\]", word)]
        return all(extra in EXTRAS for names in wanted for extra in names.split(","))
    if words[0] == "python":
        return (ROOT / words[1]).exists()
    return words[0] in ("cd", "export")


def _parse_evaluate(argv: list[str]) -> None:
    from distcond.evaluate import split_args
    from distcond.evaluation.spec import read_spec

    own, settings = split_args([] if argv[0] == "--help" else argv[1:])
    read_spec(own)
    apply_overrides(resolve("float_digits", {}), settings)


def _parse_calibrate(argv: list[str]) -> None:
    from distcond import calibrate

    options = calibrate._parse_options(argv[1:])
    if not calibrate.parse_even(options) and not calibrate.parse_end(options):
        calibrate.parse_target(options)
    apply_overrides(resolve("float_digits", {}), {path: text for path, text in options.items() if "." in path})


def _parse_pair(argv: list[str]) -> None:
    from distcond import pair

    places, settings = pair.split_places(argv)
    assert len(places) == 2
    request = pair.parse_request(settings)
    _parse_evaluate(["runs/PAIR", *request.rest])


def _parse_export(argv: list[str]) -> None:
    from distcond.export import parse_settings, points_of

    points_of(parse_settings(argv[1:]), resolve("float_digits", {}))


def _parse_tune(argv: list[str]) -> None:
    from distcond import tune

    if argv[0] not in ("--resume", "--confirm"):  # which need a sweep
        assert tune.main([*argv, "--show"]) == 0


def _parse_slurm(argv: list[str]) -> None:
    from cluster.slurm.command_line import parse_command, parse_request

    command, rest = parse_command(argv)
    if command in ("plan", "submit"):
        parse_request(rest)


def _parse_with(module: str, function: str, skip: int = 0) -> Callable[[list[str]], object]:
    return lambda argv: getattr(import_module(module), function)(argv[skip:])


def _parse_reproduce(argv: list[str]) -> None:
    from distcond import reproduce

    reproduce.parse_request([word for word in argv if word != "--commands"])


PARSERS: dict[str, Callable[[list[str]], object]] = {
    "distcond.train": command_line.parse,
    "distcond.evaluate": _parse_evaluate,
    "distcond.calibrate": _parse_calibrate,
    "distcond.pair": _parse_pair,
    "distcond.reproduce": _parse_reproduce,
    "distcond.tune": _parse_tune,
    "distcond.report": _parse_with("distcond.reporting.query", "parse_query"),
    "distcond.status": _parse_with("distcond.status", "parse_query"),
    "distcond.export": _parse_export,
    "distcond.serve": _parse_with("distcond.serving.settings", "parse_settings", skip=1),
    "cluster.slurm": _parse_slurm,
    "cluster.ray_job": command_line.parse,
    "cluster.kubernetes": _parse_with("cluster.kubernetes.__main__", "main"),
}
