"""Pairs of runs: ends, blends against hand-computed networks, rows, reports and refusals."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import distcond
from distcond import calibrate, evaluate, pair, report, train
from distcond.data.loader import to_float
from distcond.data.prepare import open_source, prepare_data
from distcond.data.splits import stratified_order
from distcond.errors import ConfigError
from distcond.evaluation.blocks import BlockEvaluator
from distcond.evaluation.by_class import classes_of
from distcond.mixednuts import Mix, transform_logits
from distcond.models.conditional import AtLambda, ConditionalModel
from distcond.models.dial import network_at
from distcond.models.flops import cost_at
from distcond.operating_point import OperatingPoint
from distcond.pairs.create import trains_against_attacks
from distcond.reporting.report_data import read_report_data
from distcond.results.comparison import comparison_groups
from distcond.results.cost import cost_lines, costs_below, run_dirs_below
from distcond.results.labels import blend_label
from distcond.results.lines import line_names
from distcond.results.store import read_rows
from distcond.runs.build import build_model
from distcond.runs.checkpoint import latest, load_shared
from distcond.runs.interpolation import statistics_batches
from distcond.runs.pair_record import read_fit
from distcond.runs.run_dir import RunDir
from distcond.training.build_trainer import check_trainable
from support.unprivileged import unprivileged

BLENDS = ("weights", "outputs", "mixednuts", "folded")


def images(count: int = 8) -> Tensor:
    return torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def point(blend: Any, t: float) -> OperatingPoint:
    return OperatingPoint(1.0, blend, t)


def train_flops(run: Path) -> float:
    last = latest(RunDir(run).checkpoints)
    assert last is not None
    found: float = load_shared(last)["train_flops"]
    return found


@torch.no_grad()
@pytest.mark.parametrize("blend", BLENDS)
def test_ends_equal_the_runs_bit_for_bit(paired: Path, standard: Path, robust: Path, blend: str) -> None:
    model = distcond.load(paired)
    for t, run in ((0.0, standard), (1.0, robust)):
        wanted = AtLambda(distcond.load(run), t)(images())
        assert torch.equal(network_at(model, point(blend, t))(images()), wanted)
        assert torch.equal(distcond.AtLambda(model, t)(images()), wanted)


def lerped_by_hand(standard: Path, robust: Path, t: float) -> ConditionalModel:
    """A network of interpolated weights whose statistics are the means over batches, computed layer by layer."""
    model, other = distcond.load(standard), distcond.load(robust)
    for mine, theirs in zip(model.parameters(), other.parameters(), strict=True):
        mine.data = mine + t * (theirs - mine)
    config = RunDir(robust).config()
    source = open_source(prepare_data(config.data), "train")
    rows = stratified_order(source.labels)[: config.train_examples]
    batches = [to_float(raw) for raw, _ in source.read(np.array_split(rows, len(rows) // 100))]
    seen: dict[nn.Module, list[tuple[Tensor, Tensor]]] = {}

    def normalise(norm: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> Tensor:
        assert isinstance(norm, nn.BatchNorm2d)
        x = given[0]
        mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
        seen.setdefault(norm, []).append((mean, x.var((0, 2, 3))))
        scale = norm.weight / (var + norm.eps).sqrt()
        return (x - mean[:, None, None]) * scale[:, None, None] + norm.bias[:, None, None]

    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    hooks = [norm.register_forward_hook(normalise) for norm in norms]
    for x in batches:
        model(x, model.condition(0.0))
    for hook in hooks:
        hook.remove()
    for norm, found in seen.items():
        norm.running_mean, norm.running_var = (torch.stack(values).mean(0) for values in zip(*found, strict=True))
    return model


@torch.no_grad()
def test_weights_are_interpolated_with_new_statistics(paired: Path, standard: Path, robust: Path) -> None:
    model, wanted = distcond.load(paired), lerped_by_hand(standard, robust, 0.5)
    found = distcond.AtDial(model, 0.5)(images())
    assert torch.allclose(found, wanted(images(), wanted.condition(0.0)), atol=1e-4)
    assert not torch.allclose(found, network_at(model, point("folded", 0.5))(images()), atol=1e-3)


@torch.no_grad()
def test_outputs_are_the_mean_of_probabilities(paired: Path, standard: Path, robust: Path) -> None:
    ours, theirs = (AtLambda(distcond.load(run), 1.0)(images()).softmax(1) for run in (standard, robust))
    found = network_at(distcond.load(paired), point("outputs", 0.3))(images())
    assert torch.allclose(found.exp(), 0.7 * ours + 0.3 * theirs, atol=1e-6)


@torch.no_grad()
def test_mixednuts_mixes_transformed_probabilities(paired: Path, standard: Path, robust: Path) -> None:
    ours, theirs = (AtLambda(distcond.load(run), 1.0)(images()) for run in (standard, robust))
    kept = json.loads((paired / "mixednuts.json").read_text())
    wanted = 0.4 * ours.softmax(1) + 0.6 * transform_logits(theirs, Mix(kept["s"], kept["p"], kept["c"])).softmax(1)
    assert torch.allclose(network_at(distcond.load(paired), point("mixednuts", 0.6))(images()).exp(), wanted, atol=1e-6)
    assert (kept["attack"]["name"], kept["examples"]) == ("pgd", 40)


@torch.no_grad()
def test_folded_weights_are_interpolated(paired: Path) -> None:
    model = distcond.load(paired)
    ends, found = [AtLambda(model, lam) for lam in (0.0, 1.0)], network_at(model, point("folded", 0.25))
    assert found.num_folded == len(model.units) and model.units[-1] is model.backbone.linear
    for index in range(found.num_folded):
        for mine, clean, robust in zip(found.folded(index)[:2], *(e.folded(index)[:2] for e in ends), strict=True):
            assert torch.equal(mine, torch.lerp(clean, robust, 0.25))


def test_rows_of_every_dial_are_readable(paired: Path) -> None:
    rows = read_rows(paired)
    assert {(row.blend, row.blend_t) for row in rows} == {(blend, t) for blend in BLENDS for t in (0.0, 0.5, 1.0)}
    assert {(row.method, row.lam, row.num_examples, row.train_world_sizes) for row in rows} == {("pair", 1.0, 40, "1")}
    at_ends = {t: {(row.attack, row.num_correct) for row in rows if row.blend_t == t} for t in (0.0, 1.0)}
    assert all(len(found) == 2 for found in at_ends.values()), "the ends are the same networks on every dial"


def test_a_pair_costs_what_both_runs_cost(paired: Path, standard: Path, robust: Path) -> None:
    both = train_flops(standard) + train_flops(robust)
    assert json.loads((paired / "finished.json").read_text())["train_flops"] == both
    assert f"training {both:.3g} FLOPs" in cost_lines(paired)
    record = json.loads((paired / "pair.json").read_text())
    assert [record[end]["run"] for end in ("standard", "robust")] == [standard.name, robust.name]


def test_command_prints_the_cost_of_mixes(paired: Path) -> None:
    one = cost_at(distcond.load(paired), 0.0, 0, 8).flops
    (said,) = pair.between_lines(RunDir(paired))
    assert f"weights {one:.3g}" in said and f"outputs {2 * one:.3g}" in said and f"mixednuts {2 * one:.3g}" in said


def test_reports_name_both_runs(paired: Path) -> None:
    rows = read_report_data([paired], "test").rows
    assert {row.method for row in rows} == {"pair: standard s1 + pgd_at s0"}
    names = {name for field in comparison_groups(rows) for name in line_names(field.lines)}
    assert any("blend of raw weights with new statistics" in name for name in names)
    assert blend_label("weights", 1.0) == "blend of weights, t from lam 0 to lam 1"


def test_mixes_cost_two_forwards_in_reports(paired: Path) -> None:
    one = cost_at(distcond.load(paired), 0.0, 0, 8).flops
    found = {at.point.blend: cost.flops for at, cost in costs_below(paired).items() if at.point.t == 0.5}
    assert found == {"weights": one, "folded": one, "outputs": 2 * one, "mixednuts": 2 * one}


def test_report_and_page_show_a_pair(paired: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("plotly")
    assert report.main([str(paired), f"png={tmp_path / 'c.png'}", f"html={tmp_path / 'c.html'}"]) == 0
    said = capsys.readouterr().out
    assert "MixedNUTS mix, t from lam 0 to lam 1" in said and "mixednuts t 0.5" in said
    assert "MixedNUTS mix" in (tmp_path / "c.html").read_text()


def test_statistics_are_estimated_once(paired: Path) -> None:
    model, place = distcond.load(paired), point("weights", 0.25)
    wanted = network_at(model, place)(images())
    file = paired / "interpolated" / "t0.25.pt"
    before = file.stat().st_mtime_ns
    assert torch.equal(network_at(distcond.load(paired), place)(images()), wanted) and file.stat().st_mtime_ns == before
    file.unlink()
    assert torch.equal(network_at(distcond.load(paired), place)(images()), wanted)


@torch.no_grad()
def test_interpolated_network_is_a_copy(paired: Path) -> None:
    model = distcond.load(paired)
    wanted = network_at(model, point("weights", 0.5))(images())
    first = network_at(model, point("weights", 0.5))
    first.half()
    for parameter in first.parameters():
        parameter.zero_()
    assert torch.equal(network_at(model, point("weights", 0.5))(images()), wanted)


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_interpolated_network_has_the_pairs_dtype(pair_copy: Path, dtype: torch.dtype) -> None:
    wanted = network_at(distcond.load(pair_copy), point("weights", 0.5))(images())
    model, file = distcond.load(pair_copy).to(dtype), pair_copy / "interpolated" / "t0.5.pt"
    before = file.read_bytes()
    network = network_at(model, point("weights", 0.5))
    assert {parameter.dtype for parameter in network.parameters()} == {dtype} and file.read_bytes() == before
    if dtype == torch.float64:  # a network at one point is folded in float32 or more
        assert torch.allclose(network(images().to(dtype)).float(), wanted, atol=1e-4)


@torch.no_grad()
def test_changed_weights_get_new_statistics(pair_copy: Path) -> None:
    model, file = distcond.load(pair_copy), pair_copy / "interpolated" / "t0.5.pt"
    network_at(model, point("weights", 0.5))
    before = file.read_bytes()
    for parameter in model.parameters():
        parameter.mul_(1.5)
    found = network_at(model, point("weights", 0.5)).state_dict()
    held = torch.load(file, weights_only=True)["statistics"]
    assert not all(torch.equal(value, found[f"model.{name}"]) for name, value in held.items())
    assert file.read_bytes() == before


DAMAGE: dict[str, Callable[[dict[str, Any]], Any]] = {
    "version": lambda held: held.pop("version"),
    "images": lambda held: held.update(images="others"),
    "missing": lambda held: held["statistics"].popitem(),
    "unknown": lambda held: held["statistics"].update(more=torch.zeros(1)),
}


@torch.no_grad()
@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_statistics_are_ignored(pair_copy: Path, kind: str) -> None:
    wanted = network_at(distcond.load(pair_copy), point("weights", 0.5))(images())
    file = pair_copy / "interpolated" / "t0.5.pt"
    held = torch.load(file, weights_only=True)
    held["statistics"] = {name: value + 1 for name, value in held["statistics"].items()}
    DAMAGE[kind](held)
    torch.save(held, file)
    assert torch.equal(network_at(distcond.load(pair_copy), point("weights", 0.5))(images()), wanted)


def test_outcomes_name_the_statistics_procedure(paired: Path) -> None:
    plan = evaluate.plan_evaluation([str(paired), "eval.dial=weights", "attack=fgsm"])
    other = replace(plan, between=plan.between | {"version": 1})
    measure = plan.clean(point("weights", 0.5), "fixed")
    assert plan.folder(measure) != other.folder(measure)
    assert plan.folder(plan.clean(point("folded", 0.5), "fixed")) == other.folder(
        plan.clean(point("folded", 0.5), "fixed")
    )


def test_statistics_of_other_weights_are_ignored(paired: Path) -> None:
    wanted = network_at(distcond.load(paired), point("weights", 0.75))(images())
    file = paired / "interpolated" / "t0.75.pt"
    held = torch.load(file, weights_only=True)
    moved = {name: tensor + 1 for name, tensor in held["statistics"].items()}
    torch.save({"weights": "others", "statistics": moved}, file)
    assert torch.equal(network_at(distcond.load(paired), point("weights", 0.75))(images()), wanted)


def test_same_command_only_prints_tables(
    paired: Path, standard: Path, robust: Path, quick_options: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    before = {file: file.stat().st_mtime_ns for file in paired.glob("**/*.npz")}
    words = [f"run_root={paired.parent}", "mix=mixednuts", "attack=fgsm", *quick_options]
    assert pair.main([str(standard), str(robust), *words]) == 0
    assert list(paired.parent.iterdir()) == [paired]
    assert {file: file.stat().st_mtime_ns for file in paired.glob("**/*.npz")} == before
    assert str(paired) in capsys.readouterr().out


def test_another_fit_is_evaluated_again(paired: Path) -> None:
    words = [str(paired), "eval.dial=mixednuts", "attack=fgsm"]
    plan = evaluate.plan_evaluation(words)
    file, measure = paired / "mixednuts.json", plan.clean(point("mixednuts", 0.5), "fixed")
    kept = file.read_text()
    try:
        file.write_text(json.dumps(json.loads(kept) | {"s": 0.123}))
        assert evaluate.plan_evaluation(words).folder(measure) != plan.folder(measure)
    finally:
        file.write_text(kept)


@pytest.fixture
def pair_copy(paired: Path, tmp_path: Path) -> Path:
    """A copy of the pair to change."""
    return Path(shutil.copytree(paired, tmp_path / "copies" / paired.name))


def test_earlier_names_of_a_fits_attack_are_read(pair_copy: Path) -> None:
    file = pair_copy / "mixednuts.json"
    kept = json.loads(file.read_text())
    file.write_text(json.dumps(kept | {"attack": kept["attack"] | {"name": "pgd-best"}}))
    found = read_fit(RunDir(pair_copy))
    assert found is not None
    assert found["attack"] == kept["attack"]
    words = pair.parse_request(["fit_attack=pgd-best"])
    assert words.fit_attack == pair.parse_request(["fit_attack=pgd"]).fit_attack == "pgd"


def test_existing_fit_is_kept(pair_copy: Path, standard: Path, robust: Path, quick_options: tuple[str, ...]) -> None:
    before = (pair_copy / "mixednuts.json").read_text()
    runs, words = (
        [str(standard), str(robust)],
        [f"run_root={pair_copy.parent}", "mix=mixednuts", "attack=fgsm", *quick_options],
    )
    assert pair.main([*runs, *words, "eval.attack.num_steps=1", "eval.val_examples=20"]) == 0
    assert (pair_copy / "mixednuts.json").read_text() == before
    with pytest.raises(ConfigError, match=r"^beta=0\.5: this pair is fitted with beta=0\.985; refit=true"):
        pair.main([*runs, *words, "beta=0.5"])


def test_refit_removes_rows_of_the_old_fit(
    pair_copy: Path, standard: Path, robust: Path, quick_options: tuple[str, ...]
) -> None:
    file = pair_copy / "mixednuts.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"s": 0.123}))
    (pair_copy / "results" / "dial-mixednuts-ra-lam1-best.json").write_text("{}")
    words = [
        f"run_root={pair_copy.parent}",
        "mix=mixednuts",
        "attack=none",
        *quick_options,
        "refit=true",
        "eval.dial_grid=0.25,1",
    ]
    assert pair.main([str(standard), str(robust), *words]) == 0
    assert json.loads(file.read_text())["s"] != 0.123
    found = {(row.blend, row.blend_t) for row in read_rows(pair_copy)}
    assert {blend for blend, _ in found} == set(BLENDS)
    assert ("mixednuts", 0.25) in found and ("mixednuts", 0.5) not in found and ("outputs", 0.5) in found
    costs = [
        point
        for cost in (pair_copy / "results").glob("costs-*.json")
        for point in json.loads(cost.read_text())["points"]
    ]
    assert ("mixednuts", 0.5) not in {(cost["blend"], cost["blend_t"]) for cost in costs}
    assert not [*(pair_copy / "results").glob("dial-mixednuts-*")]


def test_classes_do_not_mix_two_fits(pair_copy: Path) -> None:
    def found() -> set[str]:
        fields = comparison_groups(read_report_data([pair_copy], "test").rows)
        return {known.at.point.blend for field in fields for known in classes_of(field, run_dirs_below(pair_copy))}

    assert "mixednuts" in found()
    file = pair_copy / "mixednuts.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"s": 0.123}))
    assert "mixednuts" not in found()


def test_a_worker_refuses_another_fit(pair_copy: Path) -> None:
    plan = evaluate.plan_evaluation([str(pair_copy), "eval.dial=mixednuts", "attack=fgsm"])
    file = pair_copy / "mixednuts.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"s": 0.123}))
    with pytest.raises(ConfigError, match=r"mixednuts was fitted again meanwhile"):
        BlockEvaluator(plan, torch.device("cpu"))


@pytest.mark.parametrize("train_examples", [0, 600])
@pytest.mark.parametrize("images", [600, 2000, 3000])
def test_statistics_see_every_class_in_a_batch(images: int, train_examples: int) -> None:
    labels = np.repeat(np.arange(10), images // 10)  # sorted by class, as in image folders
    found = statistics_batches(labels, train_examples)
    assert min(np.unique(labels[batch]).size for batch in found) == 10
    assert sum(map(len, found)) == min(images, train_examples or 2000, 2000)


def test_calibrate_searches_along_a_pair(paired: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quick_options = ["eval.val_examples=20", "eval.batch_size=20", "launch.workers=1", "eval.dial_grid=0,1"]
    assert (
        calibrate.main(
            [str(paired), "sa=0.01", "eval.dial=weights", "resolution=0.5", "confidence=0.5", *quick_options]
        )
        == 0
    )
    assert capsys.readouterr().out.startswith("dial = ")


def test_lam_between_the_runs_is_left_out(paired: Path) -> None:
    assert [place.lam for place in evaluate.plan_evaluation([str(paired), "eval.lam_grid=0,0.3,1"]).points] == [
        0.0,
        1.0,
    ]


def test_mixednuts_own_point_is_evaluated(robust: Path) -> None:
    config = RunDir(robust).config()
    (word,) = pair.with_own_point(config, pair.PairRequest(), 0.99981234)
    assert word == "eval.dial_grid=0,0.15,0.3,0.5,0.7,0.85,0.999812,1"
    assert pair.with_own_point(config, pair.PairRequest(rest=["eval.dial_grid=0,1"]), 0.9) == []


@pytest.fixture
def read_only_pair(pair_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The pair without write permission, from a writable working directory."""
    work = tmp_path / "work"
    work.mkdir(mode=0o777)
    work.chmod(0o777)
    monkeypatch.chdir(work)
    for folder in (pair_copy, *(path for path in pair_copy.rglob("*") if path.is_dir())):
        folder.chmod(0o555)
    with unprivileged():
        yield pair_copy
    for folder in (pair_copy, *(path for path in pair_copy.rglob("*") if path.is_dir())):
        folder.chmod(0o755)


def test_statistics_of_read_only_pairs_are_cached_elsewhere(
    read_only_pair: Path, quick_options: tuple[str, ...]
) -> None:
    before = sorted(read_only_pair.rglob("*"))
    words = ["eval.dial=weights", "attack=none", *quick_options, "eval.dial_grid=0,0.125,1"]
    assert evaluate.main([str(read_only_pair), *words]) == 0
    assert (Path("evaluations") / read_only_pair.name / "interpolated" / "t0.125.pt").exists()
    assert sorted(read_only_pair.rglob("*")) == before


def test_a_read_only_pair_is_not_fitted(
    read_only_pair: Path, standard: Path, robust: Path, quick_options: tuple[str, ...]
) -> None:
    words = [f"run_root={read_only_pair.parent}", "mix=outputs,mixednuts", "attack=none", *quick_options]
    with pytest.raises(ConfigError, match=r"not writable.*mix=mixednuts"):
        pair.main([str(standard), str(robust), *words, "refit=true"])
    assert not Path("evaluations").exists(), "the fit comes before anything is evaluated"
    assert pair.main([str(standard), str(robust), *words]) == 0, "what is fitted already is used"


# Refusals.


def refusal_of(*words: str, root: Path) -> str:
    """The error line of a refused command, which writes nothing."""
    with pytest.raises(ConfigError) as refusal:
        pair.main([*words, f"run_root={root}"])
    assert not root.exists() and "\n" not in str(refusal.value)
    return str(refusal.value)


MISFITS: dict[str, dict[str, Any]] = {
    "model.widths: 4,8 in": {"model__widths": "4,6"},
    "model.name: small_cnn in": {"model": "resnet18"},
    "data.mean: ": {"data__mean": "0.5,0.5,0.5"},
    "data.std: ": {"data__std": "0.5,0.5,0.5"},
}


@pytest.mark.parametrize("line", MISFITS)
def test_runs_that_differ_are_refused(make_run: Callable[..., Path], standard: Path, tmp_path: Path, line: str) -> None:
    other = make_run("pgd_at", **MISFITS[line])
    assert refusal_of(str(standard), str(other), root=tmp_path / "runs").startswith(line)


def test_other_classes_are_refused(standard: Path, robust: Path, tmp_path: Path) -> None:
    other = _changed(robust, tmp_path / "other", classes=tuple("abcdefghij"))
    named = _changed(standard, tmp_path / "named", classes=tuple("abcdefghik"))
    said = refusal_of(str(named), str(other), root=tmp_path / "runs")
    assert said.startswith("classes: class 9 is 'k' in")


def _changed(run: Path, pair_copy: Path, **values: Any) -> Path:
    shutil.copytree(run, pair_copy)
    last = latest(RunDir(pair_copy).checkpoints)
    assert last is not None
    torch.save({**torch.load(last / "shared.pt", weights_only=True), **values}, last / "shared.pt")
    return pair_copy


def test_swapped_runs_are_refused(standard: Path, robust: Path, tmp_path: Path) -> None:
    said = refusal_of(str(robust), str(standard), root=tmp_path / "runs")
    assert said.startswith(f"{standard}: ") and "method=standard" in said


CLEAN: dict[str, dict[str, Any]] = {
    "pgd_at": {"sampler__lam": 0.0},
    "trades": {"method__beta": 0.0},
    "flying_bird": {"sampler__lam": 0.0},
}


@pytest.mark.parametrize("method", CLEAN)
def test_robust_run_needs_attacks(tiny: Any, method: str) -> None:
    assert trains_against_attacks(tiny(method)) and not trains_against_attacks(tiny(method, **CLEAN[method]))
    assert not trains_against_attacks(tiny(method, attack__epsilon=0.0)) and not trains_against_attacks(
        tiny("standard")
    )


def test_standard_run_with_attacks_is_warned_about(
    make_run: Any, robust: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = make_run("trades", seed=2)
    assert pair.main([str(other), str(robust), "mix=none", f"run_root={tmp_path}"]) == 0
    assert f"{other}: trained on attacks" in caplog.text


def test_unfinished_runs_are_refused(standard: Path, robust: Path, tmp_path: Path) -> None:
    bare = Path(shutil.copytree(robust, tmp_path / "bare", ignore=shutil.ignore_patterns("finished.json")))
    assert "not finished (1 of 1 epochs)" in refusal_of(str(standard), str(bare), root=tmp_path / "runs")
    for number, flops in enumerate((0.0, None)):
        other = _changed(standard, tmp_path / str(number), train_flops=flops)
        assert "train_flops" in refusal_of(str(other), str(robust), root=tmp_path / "runs")


def test_rows_name_the_checkpoint_of_the_runs(
    paired: Path, standard: Path, robust: Path, quick_options: tuple[str, ...], tmp_path: Path
) -> None:
    words = [f"run_root={tmp_path}", "checkpoint=last_raw", "mix=outputs", "attack=none", *quick_options]
    assert pair.main([str(standard), str(robust), *words]) == 0
    (made,) = tmp_path.iterdir()
    assert {row.checkpoint for row in read_rows(made)} == {"last_raw"}
    assert read_report_data([made, paired], "test").rows[0].checkpoint == "last_raw"
    for command, more in ((evaluate.plan_evaluation, "attack=none"), (calibrate.main, "sa=0.1")):
        with pytest.raises(ConfigError, match=r"^checkpoint=last: this pair was made of checkpoint=last_raw;"):
            command([str(made), "checkpoint=last", more])


@pytest.mark.parametrize("left", ["", "{", "[]", '{"data": "x"}'])
def test_same_command_restores_a_record(pair_copy: Path, standard: Path, robust: Path, left: str) -> None:
    file = pair_copy / "pair.json"
    kept = json.loads(file.read_text())
    file.write_text(left) if left else file.unlink()
    with pytest.raises(ConfigError, match=r"pair\.json: missing or damaged; make the pair again"):
        distcond.load(pair_copy)
    assert pair.main([str(standard), str(robust), "mix=none", f"run_root={pair_copy.parent}"]) == 0
    assert json.loads(file.read_text()) == kept and len(distcond.load(pair_copy).units) > 0


def test_path_may_contain_an_equals_sign(standard: Path, tmp_path: Path) -> None:
    places = ["s3://b/A?endpoint_override=x:9000", "s3://b/B?endpoint_override=x:9000"]
    assert pair.split_places([*places, "mix=none"]) == (places, ["mix=none"])
    odd = tmp_path / "lr=0.1"
    odd.mkdir()
    assert pair.split_places([str(odd), str(standard), "beta=0.9"]) == ([str(odd), str(standard)], ["beta=0.9"])


def test_a_run_without_checkpoint_is_refused(standard: Path, robust: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(robust, bare, ignore=shutil.ignore_patterns("checkpoints"))
    assert "no checkpoint yet" in refusal_of(str(standard), str(bare), root=tmp_path / "runs")
    assert "no run here" in refusal_of(str(standard), str(tmp_path / "nothing"), root=tmp_path / "runs")


def test_a_method_with_two_paths_is_refused(make_run: Any, standard: Path, tmp_path: Path) -> None:
    said = refusal_of(str(standard), str(make_run("float")), root=tmp_path / "runs")
    assert "method=float" in said and "pgd_at" in said and "standard" in said


def test_one_run_twice_is_refused(standard: Path, tmp_path: Path) -> None:
    assert "a pair needs two" in refusal_of(str(standard), str(standard), root=tmp_path / "runs")


WORDS = {
    "mix=soup": "unknown value for mix 'soup'",
    "mix=": "unknown value for mix ''",
    "beta=1": "beta=1: must be less than 1",
    "fit_attack=autoattack": "unknown value for fit_attack 'autoattack'",
    "checkpoint=live": "unknown value for checkpoint 'live'",
    "eval.dial=outputs": "eval.dial=outputs: mix sets",
    "optim.lr=1": "unknown setting of an evaluation 'optim.lr'",
    "attack=nothing": "unknown attack 'nothing'",
    "eval.dial_grid=2": "eval.dial_grid=2: must be at most 1",
    "refit=perhaps": "refit=perhaps: ",
    "eval.attack.step_size=0": "eval.attack.step_size=0",
    "eval.lam_grid=0": "eval.lam_grid: changes nothing with eval.dial=weights",
}


@pytest.mark.parametrize("word", WORDS)
def test_invalid_option_is_refused(standard: Path, robust: Path, tmp_path: Path, word: str) -> None:
    more = ["attack=none"] if word.startswith("eval.attack") else []
    assert WORDS[word] in refusal_of(str(standard), str(robust), word, *more, root=tmp_path / "runs")


@pytest.mark.parametrize("count", [1, 3])
def test_other_than_two_runs_are_refused(standard: Path, tmp_path: Path, count: int) -> None:
    assert refusal_of(*[str(standard)] * count, root=tmp_path / "runs").startswith(f"{count} runs: give two")


def test_refusals_name_the_dials_of_a_pair(paired: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"^eval\.dial_lam: .*; valid: eval\.dial=weights, outputs, mixednuts, folded$"
    ):
        evaluate.plan_evaluation([str(paired), "eval.dial_lam=0.5"])


def test_training_a_pair_is_refused(small: Any) -> None:
    with pytest.raises(ConfigError, match=r"^method=pair: .*distcond\.pair"):
        check_trainable(small("pair"), 1000)


@pytest.mark.parametrize("dial", ["mixednuts", "folded"])
def test_dials_of_pairs_are_refused_elsewhere(make_run: Any, tiny: Any, dial: Any) -> None:
    with pytest.raises(ConfigError, match=rf"^eval\.dial={dial}: blends two runs .*, float is one network"):
        evaluate.plan_evaluation([str(make_run("float")), f"eval.dial={dial}"])
    with pytest.raises(ConfigError, match=rf"^dial={dial}: blends two runs .*; valid: switch, weights, outputs$"):
        distcond.AtDial(build_model(tiny("smart")).eval(), 0.5, dial)


def test_a_mix_that_is_not_fitted_is_refused(standard: Path, robust: Path, tmp_path: Path) -> None:
    assert pair.main([str(standard), str(robust), "mix=none", f"run_root={tmp_path}"]) == 0
    (bare,) = tmp_path.iterdir()
    with pytest.raises(ConfigError, match=r"^dial=mixednuts: not fitted for this pair yet"):
        evaluate.plan_evaluation([str(bare), "eval.dial=mixednuts"])


def test_other_images_are_refused_between_runs(paired: Path) -> None:
    model = distcond.load(paired)
    other = copy.copy(model.interpolate)
    other.fingerprint, model.interpolate = "another", other  # type: ignore[union-attr, misc, assignment]
    with pytest.raises(ConfigError, match=r"not the images that .* was made with"):
        network_at(model, point("weights", 0.123))


def test_images_that_moved_are_found(
    standard: Path, robust: Path, quick_options: tuple[str, ...], tmp_path: Path
) -> None:
    words = [f"run_root={tmp_path / 'runs'}", "mix=weights", "attack=none", f"data.cache_dir={tmp_path / 'cache'}"]
    assert pair.main([str(standard), str(robust), *words, *quick_options]) == 0
    (made,) = (tmp_path / "runs").iterdir()
    assert RunDir(made).config().data.cache_dir == str(tmp_path / "cache")


def test_training_by_command_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^method=pair: is not trained"):
        train.main(["pgd_at_digits", "method=pair", "launch=local", f"run_root={tmp_path / 'runs'}"])
    assert not (tmp_path / "runs").exists()
