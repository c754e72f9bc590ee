"""Weights & Biases and MLflow, through their own libraries, when a recipe asks for them."""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from nlirg.atomic_io import write_text
from nlirg.config.training import TrackingConfig
from nlirg.errors import InputError

SECRET = re.compile(
    r"(^|_)(api_?key|key|token|password|passwd|secret|credentials?)$", re.IGNORECASE
)
RUN_IDS = "trackers.json"
# What makes a run continue where it was is ours to say.
WANDB_RESERVED = {"id", "resume", "dir", "config", "reinit"}
MLFLOW_KEYS = {"tracking_uri", "experiment"}
MLFLOW_PARAMS_PER_CALL = 100
# MLflow's own defaults would hold training up for minutes when its server is gone.
MLFLOW_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}

logger = logging.getLogger(__name__)


class Tracker(Protocol):
    """A service that shows runs; any of its calls may fail."""

    name: str

    def log(self, step: int, values: dict[str, float]) -> None:
        """Send the numbers of one step."""

    def close(self) -> None:
        """Send what is left and mark the run as finished."""


def check_tracking(config: TrackingConfig) -> None:
    """Refuse settings that cannot work, before anything is started.

    Raises:
        InputError: if a secret is among them, a key is unknown or ours to set, or a library is
            not installed.
    """
    for tracker, settings in (("wandb", config.wandb), ("mlflow", config.mlflow)):
        if settings is None:
            continue
        for key, value in settings.items():
            _refuse_secret(f"train.tracking.{tracker}.{key}", value)
        if not _installed(tracker):
            raise InputError(
                f"train.tracking.{tracker} needs a library that is not installed: "
                f"pip install nlirg[{tracker}]"
            )
    if taken := WANDB_RESERVED & (config.wandb or {}).keys():
        raise InputError(
            f"train.tracking.wandb.{min(taken)} is set by the run itself: leave it out"
        )
    if unknown := (config.mlflow or {}).keys() - MLFLOW_KEYS:
        known = " and ".join(sorted(MLFLOW_KEYS))
        raise InputError(f"train.tracking.mlflow.{min(unknown)} is unknown: it takes {known}")


def _installed(library: str) -> bool:
    """Say whether a library can be imported; a mere folder of its name has no origin."""
    spec = find_spec(library)
    return spec is not None and spec.origin is not None


def _refuse_secret(key: str, value: str) -> None:
    name = key.rpartition(".")[2]
    if SECRET.search(name):
        raise InputError(
            f"{key}: secrets do not belong in a recipe, which is kept with the run; set the "
            "tracker's environment variable (WANDB_API_KEY, MLFLOW_TRACKING_TOKEN)"
        )
    if "://" in value and urlsplit(value).password:
        raise InputError(
            f"{key}: leave the password out of the address, and set MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD"
        )


def start_trackers(
    config: TrackingConfig, directory: Path, name: str, settings: dict[str, Any]
) -> list[Tracker]:
    """Start the trackers that a recipe names, on the first rank only.

    Their runs' ids are kept in the run's folder, so that a resumed run continues them.

    Args:
        config: which trackers.
        directory: the run's folder.
        name: what the run is called there, unless the recipe says otherwise.
        settings: shown as the run's configuration.

    Raises:
        InputError: see `check_tracking`; or if a tracker does not start. A resumed run goes on
            without it instead, with a warning.
    """
    check_tracking(config)
    start: dict[str, Callable[[str | None], Any]] = {}
    if config.wandb is not None:
        wandb = {"name": name} | config.wandb
        start["wandb"] = lambda run: WandbTracker(wandb, directory, run, settings)
    if config.mlflow is not None:
        mlflow = config.mlflow
        start["mlflow"] = lambda run: MlflowTracker(mlflow, name, run, settings)
    path = directory / RUN_IDS
    ids = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    trackers: list[Any] = []
    for tracker, make in start.items():
        try:
            trackers.append(make(ids.get(tracker)))
        except Exception as error:  # whatever their libraries raise
            reason = f"train.tracking.{tracker} could not start: {' '.join(str(error).split())}"
            if tracker not in ids:
                raise InputError(reason) from error
            logger.warning("%s; the resumed run goes on without it", reason)
        else:
            ids[tracker] = trackers[-1].run_id
    if trackers:
        write_text(path, json.dumps(ids))
    return trackers


class WandbTracker:
    """A run of Weights & Biases.

    Args:
        init: arguments of `wandb.init`.
        directory: where its files go.
        run_id: the run to continue, if any.
        settings: shown as the run's configuration.
    """

    name = "wandb"

    def __init__(
        self, init: dict[str, str], directory: Path, run_id: str | None, settings: dict[str, Any]
    ) -> None:
        import wandb

        self._run = wandb.init(
            **init,  # type: ignore[arg-type]
            id=run_id,
            resume="allow",
            dir=str(directory),
            config=settings,
            reinit="create_new",
        )
        # Steps repeated after a crash would be refused as wandb's own step, which only grows.
        self._run.define_metric("*", step_metric="step")
        self.run_id: str = self._run.id

    def log(self, step: int, values: dict[str, float]) -> None:
        """See `Tracker.log`."""
        self._run.log({"step": step, **values})

    def close(self) -> None:
        """See `Tracker.close`."""
        import wandb

        self._run.finish()
        wandb.teardown()  # `finish` returns before the library's own process has written its file


class MlflowTracker:
    """A run of MLflow.

    Args:
        where: tracking_uri and experiment; what is missing is MLflow's own default.
        name: of the run.
        run_id: the run to continue, if any.
        settings: shown as the run's parameters.
    """

    name = "mlflow"

    def __init__(
        self, where: dict[str, str], name: str, run_id: str | None, settings: dict[str, Any]
    ) -> None:
        for variable, value in MLFLOW_PATIENCE.items():
            os.environ.setdefault(variable, value)
        from mlflow import MlflowClient

        self._client = MlflowClient(tracking_uri=where.get("tracking_uri"))
        if run_id is None:
            experiment = self._experiment(where.get("experiment", "nlirg"))
            run_id = self._client.create_run(experiment, run_name=name).info.run_id
            self._log_params(run_id, settings)
        else:
            self._client.update_run(run_id, status="RUNNING")
        self.run_id: str = run_id

    def _experiment(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        return found.experiment_id if found else self._client.create_experiment(name)

    def _log_params(self, run_id: str, settings: dict[str, Any]) -> None:
        from mlflow.entities import Param

        params = [Param(key, str(value)) for key, value in settings.items()]
        for start in range(0, len(params), MLFLOW_PARAMS_PER_CALL):
            self._client.log_batch(run_id, params=params[start : start + MLFLOW_PARAMS_PER_CALL])

    def log(self, step: int, values: dict[str, float]) -> None:
        """See `Tracker.log`; characters that MLflow refuses in names become underscores."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [
            Metric(re.sub(r"[^\w./ -]", "_", key), value, now, step)
            for key, value in values.items()
        ]
        self._client.log_batch(self.run_id, metrics=metrics)

    def close(self) -> None:
        """See `Tracker.close`."""
        self._client.set_terminated(self.run_id)
