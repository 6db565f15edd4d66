from __future__ import annotations

import json
from typing import Any

from distcond.tuning.axis import Axis
from distcond.tuning.objective import Objective
from distcond.tuning.optuna_search import Optuna, takes_trial
from distcond.tuning.space import Space
from support.installed import needs

needs("optuna", "Optuna comes with the extra tune")

SA, RA = Objective("sa@0", "sa", 0.0, True), Objective("ra@1", "ra", 1.0, True)
SPACE = Space(
    "s", "?", "float_digits", 9,
    axes=(Axis("optim.lr", "uniform", 0.0, 1.0), Axis("optim.no_decay", "choice", values=(["alpha"], []))),
)  # fmt: skip


def score(drawn: dict[str, Any]) -> float:
    return 1 - (drawn["optim.lr"] - 0.7) ** 2 - 0.2 * bool(drawn["optim.no_decay"])


def search(count: int, cut: int = -1) -> list[dict[str, Any]]:
    """Proposals one after the other; at `cut` the search is thrown away and rebuilt from what was kept."""
    found, kept, drawn = Optuna(SPACE, "tpe", [SA], 0), [], []
    for number in range(count):
        if number == cut:
            found = Optuna(SPACE, "tpe", [SA], 0)
            for earlier, (memory, value) in enumerate(kept):
                found.again(earlier, json.loads(json.dumps(memory)))
                found.tell(earlier, [value], 1, True)
        proposal = found.propose(number)
        assert proposal is not None
        kept.append((found.memory(number), score(proposal)))
        found.tell(number, [score(proposal)], 1, True)
        drawn.append(proposal)
    return drawn


def test_tpe_finds_what_is_good() -> None:
    late = search(40)[-10:]
    assert sum(abs(drawn["optim.lr"] - 0.7) < 0.2 for drawn in late) >= 7
    assert sum(drawn["optim.no_decay"] == [] for drawn in late) >= 7


def test_search_rebuilt_from_files_proposes_the_same() -> None:
    assert search(14, cut=9) == search(14)


def test_several_objectives_stopped_and_failed_trials() -> None:
    found = Optuna(SPACE, "nsga2", [SA, RA], 0)
    for number in range(20):
        drawn = found.propose(number)
        assert drawn is not None
        values = [] if number == 3 else [drawn["optim.lr"], 1 - drawn["optim.lr"]]
        found.tell(number, values, 1, whole=True)
    assert len(found.study.best_trials) > 1
    asha = Optuna(SPACE, "tpe", [SA], 0)
    asha.propose(0)
    asha.tell(0, [0.5], 1, whole=False)
    asha.tell(0, [0.8], 9, whole=True)  # promoted after all
    assert asha.study.best_value == 0.8


def test_a_proposal_that_failed_is_forgotten() -> None:
    found = Optuna(SPACE, "tpe", [SA], 0)
    found.again(0, {})
    found.tell(0, [], 0, whole=False)
    assert not found.study.trials


def test_a_function_defines_the_space_by_running() -> None:
    def space(trial: Any) -> dict[str, Any]:
        schedule = trial.suggest_categorical("schedule", ["cosine", "multistep"])
        drawn = {"optim.schedule": schedule}
        if schedule == "multistep":
            drawn["optim.drop_factor"] = trial.suggest_float("drop", 0.1, 0.5)
        return drawn

    assert takes_trial(space)
    found = Optuna(SPACE, "tpe", [SA], 0, space)
    drawn = [found.propose(number) for number in range(10)]
    assert {len(proposal) for proposal in drawn if proposal} == {1, 2}
    assert json.loads(json.dumps(found.memory(3)))["params"]["schedule"] in ("cosine", "multistep")
