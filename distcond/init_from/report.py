"""Reports what a run copied from `init_from` and what not: one line for the log, full lists for a file."""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

import torch

from distcond.init_from.matching import Match
from distcond.init_from.weights_file import Weights
from distcond.layers.film import FiLM
from distcond.models.conditional import ConditionalModel
from distcond.models.tensor_roles import role_of
from distcond.run_layout import INIT_FROM_FILE

_TOLERANCE = 1e-6


class InitReport(NamedTuple):
    """What was copied."""

    digest: str  # of the weights' content; part of the run ID
    summary: str  # one line for the log
    record: dict[str, Any]  # content of init_from.json


def takes_classifier(match: Match) -> bool:
    """Whether the classifier is copied."""
    return not _classifier(match)


def build_init_report(
    init_from: str, weights: Weights, match: Match, model: ConditionalModel, classes: str = ""
) -> InitReport:
    """The report on a match, made before its tensors are copied to `model`. `classes` is the `class_order_note`."""
    digest = weights.digest
    notes = {
        "classifier": _classifier(match),
        "classes": classes,
        "film": _film(match, model),
        "normalisation": _normalisation(weights, model),
    }
    copied = {candidate.name for candidate in match.copies.values()}
    found_in = f" in {weights.entry}" if weights.entry else ""
    parts = [
        f"{len(copied)} tensors{found_in} by the names of {match.convention} to {len(match.copies)} here",
        *notes.values(),
        _count("of ours start fresh", match.fresh),
        _count("of theirs unused", match.unused),
    ]
    record = {
        "init_from": init_from,
        "digest": digest,
        "convention": match.convention,
        "entry": weights.entry,
        **notes,
        "copied": {name: candidate.name for name, candidate in match.copies.items()},
        "biases_in_running_means": list(match.folded),
        "other_shapes": {name: {"there": there, "here": here} for name, (there, here) in match.head_mismatches.items()},
        "fresh": list(match.fresh),
        "unused": list(match.unused),
        "not_tensors": list(weights.others),
    }
    summary = f"init_from={init_from}: {'; '.join(filter(None, parts))} (lists in {INIT_FROM_FILE})"
    return InitReport(digest, summary, record)


def with_codes(report: InitReport | None, file: str, digest: str) -> InitReport:
    """The report on weights, or None without any, completed by the codes of a file with that digest."""
    line = f"method.code_file={file}: codes of lam taken from it"
    codes = {"code_file": file, "codes": digest}
    if report is None:
        return InitReport(digest, line, {"digest": digest, **codes})
    both = hashlib.blake2b(f"{report.digest}{digest}".encode(), digest_size=8).hexdigest()
    return InitReport(both, f"{report.summary}; {line}", report.record | {"digest": both, **codes})


def _count(what: str, names: tuple[str, ...]) -> str:
    return f"{len(names)} {what}, such as {names[0]}" if names else ""


def _classifier(match: Match) -> str:
    if match.head_mismatches:
        name, (there, here) = next(iter(match.head_mismatches.items()))
        return f"the classifier starts fresh: {name} is {there} there and {here} here"
    absent = any(role_of(name).role == f"{match.head}.weight" for name in match.fresh)
    return f"the classifier starts fresh: nothing there for {match.head}" if absent else ""


def _film(match: Match, model: ConditionalModel) -> str:
    fresh = [
        module
        for name, module in model.backbone.named_modules()
        if isinstance(module, FiLM) and f"{name}.out.weight" in match.fresh
    ]
    if not fresh:
        return ""
    if all(module.identity_start for module in fresh):
        return "FiLM starts as the identity"
    return "FiLM starts fresh, so the network is another function at first (method.identity_start=true: the same)"


def _normalisation(weights: Weights, model: ConditionalModel) -> str:
    if weights.mean is None or weights.std is None:
        kept = f"mean {_numbers(model.mean)} std {_numbers(model.std)}"
        return f"it has no normalisation, the data set's is kept ({kept})"
    pairs = (weights.mean, model.mean), (weights.std, model.std)
    if all(torch.allclose(there, here.cpu(), rtol=0, atol=_TOLERANCE) for there, here in pairs):
        return ""
    there, here = (f"mean {_numbers(mean)} std {_numbers(std)}" for mean, std in zip(*pairs, strict=True))
    return f"normalisation adopted: {there}, not {here}"


def _numbers(values: torch.Tensor) -> str:
    return ",".join(f"{value:.4g}" for value in values.flatten().tolist())
