"""An MLflow run, at MLFLOW_TRACKING_URI or else in `mlflow.db` beside the run directories."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from typing import Any

from distcond.trackers.base import RunInfo, Tracker

#: By this tag a later start finds the MLflow run of a run.
TAG = "distcond.run"
EXPERIMENT = "distcond"

_PARAMETERS = 100  # that MLflow takes in one call


class MlflowRun:
    """The MLflow run that bears the run's identity, made if there is none."""

    def __init__(self, subject: RunInfo) -> None:
        from mlflow import MlflowClient

        # Making a database would be told in many lines. Not before the import, which sets it, too.
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        place = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{subject.path.parent / 'mlflow.db'}"
        self.client: Any = MlflowClient(tracking_uri=place)
        experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
        known = self.client.get_experiment_by_name(experiment)
        home = known.experiment_id if known else self.client.create_experiment(experiment)
        found = self.client.search_runs([home], f"tags.`{TAG}` = '{subject.identity}'", max_results=1)
        # What was handed over last may have arrived before that could be written down.
        self.after = int(found[0].data.metrics.get("epoch", 0)) if found else 0
        self.run_id: str = found[0].info.run_id if found else self._made(home, subject)
        if found:
            self.client.update_run(self.run_id, status="RUNNING")

    def _made(self, experiment: str, subject: RunInfo) -> str:
        from mlflow.entities import Param

        run = self.client.create_run(experiment, run_name=subject.name, tags={TAG: subject.identity})
        settings = [Param(path, str(value)[:500]) for path, value in subject.settings.items()]
        for first in range(0, len(settings), _PARAMETERS):
            self.client.log_batch(run.info.run_id, params=settings[first : first + _PARAMETERS])
        return str(run.info.run_id)

    def write(self, epoch: int, metrics: Mapping[str, float]) -> None:
        if epoch <= self.after:
            return
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        held = [Metric(name, value, now, epoch) for name, value in {**metrics, "epoch": epoch}.items()]
        self.client.log_batch(self.run_id, metrics=held)

    def close(self) -> None:
        self.client.set_terminated(self.run_id)


SINK = Tracker(
    name="mlflow",
    summary="an MLflow run at MLFLOW_TRACKING_URI, or in mlflow.db beside the run directories",
    module="mlflow",
    install="mlflow-skinny sqlalchemy alembic",
    open=MlflowRun,
)
