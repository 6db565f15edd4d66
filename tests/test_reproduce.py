"""python -m distcond.reproduce: the table of a paper from ordinary runs, resumed and set beside published figures."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from distcond import reproduce
from distcond.config.command_line import parse
from distcond.config.run_id import run_id
from distcond.errors import ConfigError
from distcond.reproduction.tables import NOT_PUBLISHED, NOT_RECOVERED, SCALES, TABLES, config_of, published
from distcond.run_layout import FINISHED_FILE, HISTORY_FILE
from distcond.runs.build import build_model

PLACES = [(paper, scale, on) for paper, of in TABLES.items() for scale in SCALES for on in of.benchmarks
          if scale == "paper" or on == "cifar10"]  # fmt: skip


@pytest.mark.parametrize(("paper", "scale", "on"), PLACES)
def test_every_network_of_a_table_is_another_run(paper: str, scale: str, on: str) -> None:
    of = TABLES[paper]
    configs = [config_of(of, network, scale, on, {}) for network in of.networks]
    assert len({run_id(config, "f") for config in configs}) == len(configs)
    assert len({network.label for network in of.networks}) == len(configs)
    for network in of.networks:
        found = published(of, network, scale, on)
        known = scale == "paper" and paper == "sparsity_winning_twice"
        assert known != isinstance(found, str)
        assert known or found == (NOT_RECOVERED if scale == "paper" else NOT_PUBLISHED)


def test_published_figures_are_those_of_the_authors() -> None:
    of = TABLES["sparsity_winning_twice"]
    rows = {(on, network.label): published(of, network, "paper", on) for on in of.benchmarks for network in of.networks}
    assert rows["cifar10", "PGD-AT, dense"] == (51.10, 43.61, 81.15, 83.38, 38.82)
    assert rows["tiny_imagenet", "Flying Bird+"] == (20.36, 19.11, 45.67, 46.73, 13.24)


@pytest.mark.parametrize("paper", TABLES)
def test_networks_of_the_digits_can_be_built(paper: str) -> None:
    for network in TABLES[paper].networks:
        config = config_of(TABLES[paper], network, "digits", "cifar10", {})
        assert (config.data.name, config.launch.name, config.eval.dial) == ("digits", "local", "switch")
        build_model(config)


@pytest.mark.parametrize("scale", ["digits", "paper"])
def test_commands_name_the_same_runs(scale: str, capsys: Any) -> None:
    for paper, of in TABLES.items():
        words = [paper, f"scale={scale}", "seed=3"]
        assert reproduce.main([*words, "--commands"]) == 0
        lines = capsys.readouterr().out.splitlines()
        wanted = [config_of(of, network, scale, "cifar10", {"seed": 3}) for network in of.networks]
        found = [parse(shlex.split(line.removeprefix("python -m distcond.train "))).config for line in lines]
        assert [run_id(config, "f") for config in found] == [run_id(config, "f") for config in wanted]


FEW = {
    "data.loader": "memory", "train_examples": 100, "batch_size": 32, "epochs": 1, "attack.num_steps": 1,
    "model.widths": "4,8", "eval.lam_grid": "0,1", "eval.val_examples": 20, "eval.val_steps": 1, "eval.sentinel": "off",
    "eval.test_examples": 30, "eval.attack.num_steps": 1, "eval.train_examples": 30, "precision.train": "float32",
    "attack.step_size": 0.25, "eval.attack.step_size": 0.25,
}  # fmt: skip


def test_table_resumes_and_becomes_a_page(digits_cache: Path, tmp_path: Path, capsys: Any) -> None:
    few = [f"{path}={value}" for path, value in FEW.items()]
    words = ["smart", f"run_root={tmp_path / 'runs'}", f"out={tmp_path}", f"data.cache_dir={digits_cache}", *few]
    # As if stopped after the first network.
    assert reproduce.main([*words, "only=overlap 0 %"]) == 0
    (first,) = (tmp_path / "runs").iterdir()
    history = (first / HISTORY_FILE).stat().st_mtime_ns
    capsys.readouterr()
    assert reproduce.main([*words, "only=overlap 0 %,FLOAT"]) == 0
    assert len(list((tmp_path / "runs").glob(f"*/{FINISHED_FILE}"))) == 2
    assert (first / HISTORY_FILE).stat().st_mtime_ns == history
    text = (tmp_path / "smart-digits.md").read_text()
    assert text in capsys.readouterr().out
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| ")]
    measured = {(row[0], row[1]): row for row in rows if len(row) == 9 and row[3] == "measured"}
    overlap = "SMART, fixed masks, overlap 0 %"
    assert list(measured) == [(label, lam) for label in (overlap, "FLOAT") for lam in ("0", "1")]
    assert all(cell.count("±") == 1 for row in measured.values() for cell in row[4:8])
    assert all(float(row[8]) is not None for row in measured.values())
    assert [row[4:] for row in rows if row[3] == "published"] == [["not published"] * 5] * 2
    assert first.name in text and "up to 2.72x fewer non-zero weights" in text


def test_networks_without_a_run_are_marked(digits_cache: Path, tmp_path: Path) -> None:
    from distcond.reproduction.page import Line, page

    of = TABLES["sparsity_winning_twice"]
    lines = [
        Line(network, config_of(of, network, "paper", "cifar10", {}), tmp_path / "none",
             published(of, network, "paper", "cifar10"))
        for network in of.networks
    ]  # fmt: skip
    text = page(of, lines, "paper", "command")
    assert text.count("not run yet") == 4 * 5 + 4 * 5
    assert "| PGD-AT, dense |  |  | published | 81.15 | 51.10 | 83.38 | 43.61 | 38.82 |" in text


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["madry"], "paper"),
        (["oat", "scale=huge"], "scale"),
        (["oat", "scale=paper", "on=mnist"], "on"),
        (["oat", "on=svhn"], "on=svhn"),
        (["oat", "only=nothing"], "only=nothing"),
        (["oat", "epoch=3"], "epoch"),
        (["oat", "optim.lr=fast"], "optim.lr=fast"),
        (["oat", "--fast"], "--fast"),
        (["scale=digits"], "which paper"),
        (["oat", "float"], "two recipes"),
        (["oat", "scale=cifar_small"], "data.root"),
    ],
)
def test_invalid_request_is_refused_before_anything(words: list[str], named: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=named) as refused:
        reproduce.main([*words, f"run_root={tmp_path / 'runs'}", f"out={tmp_path / 'out'}"])
    assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_help_names_every_paper_and_scale(capsys: Any) -> None:
    assert reproduce.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in (*TABLES, *SCALES))
