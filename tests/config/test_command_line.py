"""Parsing of the command line, and exit statuses of an entry point."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from distcond import calibrate, train
from distcond.config.command_line import parse, parse_args, run_cli
from distcond.errors import ConfigError
from distcond.registry import KINDS


def test_one_recipe_and_settings_in_any_order() -> None:
    config = parse(["attack.epsilon=8/255", "pgd_at_digits", "epochs=2", "epochs=3"]).config
    assert (config.recipe, config.method.name, config.epochs) == ("pgd_at_digits", "pgd_at", 3)
    assert config.attack.epsilon == pytest.approx(8 / 255)


def test_no_argument_is_the_default_recipe() -> None:
    assert parse([]).config.recipe == "float_digits"
    assert parse_args(["recipe=oat_digits", "epochs=1"]) == ("oat_digits", {"epochs": "1"})


def test_two_recipes_are_refused() -> None:
    with pytest.raises(ConfigError, match="float_digits and pgd_at_digits"):
        parse(["float_digits", "pgd_at_digits"])


@pytest.mark.parametrize(
    "words",
    [
        "epochs=three epochs=1",
        "optim.lr=-1 optim.lr=0.1",
        "epoch=3 epoch=2",
        "method=oatt method=oat",
        "data=cifar9 data=digits",
        "method=oat method.nothing=1 method.nothing=2",
        "recipe=no_such recipe=float_digits",
        "float_digits recipe=oat_digits",
        "epochs= epochs=2",
    ],
)
def test_overridden_value_is_checked(words: str) -> None:
    with pytest.raises(ConfigError):
        parse(words.split())


def test_later_value_counts() -> None:
    words = "method=floats method=oats method.dim=8 method=oat sampler=uniform sampler=beta"
    config = parse(words.split()).config
    assert (config.method.name, config.sampler.name) == ("oat", "beta")


def test_overridden_options_of_evaluations_are_checked() -> None:
    with pytest.raises(ConfigError, match="confidence=2"):
        calibrate._parse_options(["ra=0.2", "confidence=2", "confidence=0.9"])
    with pytest.raises(ConfigError, match=r"eval\.batch_size=many"):
        calibrate._parse_options(["eval.batch_size=many", "eval.batch_size=8"])


def test_an_unknown_recipe_names_the_nearest_five() -> None:
    with pytest.raises(ConfigError, match=r"nearest are ([a-z0-9_]+, ){4}[a-z0-9_]+; all: .* --list recipe") as refused:
        parse(["float_cifar_resnet"])
    assert "float_cifar10_resnet20" in str(refused.value)
    assert len(str(refused.value)) < 400


def test_an_unknown_flag_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"--epochs.*PATH=VALUE"):
        parse(["--epochs", "3"])


def test_help_names_every_setting_with_its_value(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        train.main(["oat_digits", "--help"])
    assert not end.value.code
    shown = capsys.readouterr().out
    assert "eval.attack.num_steps=20" in shown
    assert "method.encoding=" in shown
    assert "oat_digits: OAT on 8x8 handwritten digits" in shown
    assert "NeurIPS 2020" in shown
    assert ", ".join(KINDS) in shown


def test_user_errors_and_interrupts_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def mistaken() -> int:
        raise ConfigError("what is wrong")

    def interrupted() -> int:
        raise KeyboardInterrupt

    for main, status, said in ((mistaken, 2, "error: what is wrong\n"), (interrupted, 130, "stopped;")):
        with pytest.raises(SystemExit) as left:
            run_cli(main)
        assert left.value.code == status
        assert capsys.readouterr().err.startswith(said)


def test_closed_pipe_ends_quietly() -> None:
    script = "from distcond.config.command_line import run_cli; run_cli(lambda: print('x' * (1 << 20)) or 0)"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 128 + signal.SIGPIPE
