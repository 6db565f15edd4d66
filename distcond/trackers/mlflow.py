"""An MLflow run, at MLFLOW_TRACKING_URI or else in `mlflow.db` beside the run directories."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from typing import Any

from distcond.trackers.base import RunInfo, Tracker

#: The tag by which a later start finds the MLflow run.
TAG = "distcond.run"
EXPERIMENT = "distcond"

_MAX_PARAMS = 100  # per call, a limit of MLflow


class MlflowRun:
    """The MLflow run tagged with the run's identity; created if there is none."""

    def __init__(self, info: RunInfo) -> None:
        from mlflow import MlflowClient

        # MLflow logs every migration of a new database. Its import sets the level, so this comes after it.
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{info.path.parent / 'mlflow.db'}"
        self.client: Any = MlflowClient(tracking_uri=uri)
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
        experiment = self.client.get_experiment_by_name(name)
        experiment_id = experiment.experiment_id if experiment else self.client.create_experiment(name)
        found = self.client.search_runs([experiment_id], f"tags.`{TAG}` = '{info.identity}'", max_results=1)
        # A killed start may have sent an epoch that it did not record as sent.
        self.after = int(found[0].data.metrics.get("epoch", 0)) if found else 0
        self.run_id: str = found[0].info.run_id if found else self._create_run(experiment_id, info)
        if found:
            self.client.update_run(self.run_id, status="RUNNING")

    def _create_run(self, experiment_id: str, info: RunInfo) -> str:
        from mlflow.entities import Param

        run = self.client.create_run(experiment_id, run_name=info.name, tags={TAG: info.identity})
        params = [Param(path, str(value)[:500]) for path, value in info.settings.items()]
        for first in range(0, len(params), _MAX_PARAMS):
            self.client.log_batch(run.info.run_id, params=params[first : first + _MAX_PARAMS])
        return str(run.info.run_id)

    def write(self, epoch: int, metrics: Mapping[str, float]) -> None:
        if epoch <= self.after:
            return
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        batch = [Metric(name, value, now, epoch) for name, value in {**metrics, "epoch": epoch}.items()]
        self.client.log_batch(self.run_id, metrics=batch)

    def close(self) -> None:
        self.client.set_terminated(self.run_id)


SINK = Tracker(
    name="mlflow",
    summary="an MLflow run at MLFLOW_TRACKING_URI, or in mlflow.db beside the run directories",
    module="mlflow",
    install="mlflow-skinny sqlalchemy alembic",
    open=MlflowRun,
)
