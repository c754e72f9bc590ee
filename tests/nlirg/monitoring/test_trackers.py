"""W&B (real, offline) and MLflow (by a stand-in with its client's methods)."""

import json
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace

import pytest

from nlirg.config.training import TrackingConfig
from nlirg.errors import InputError
from nlirg.monitoring import trackers
from nlirg.monitoring.trackers import check_tracking, start_trackers


class FakeMlflow:
    """A server's store, with the client methods that are used."""

    def __init__(self):
        self.experiments, self.runs, self.uris = {}, {}, []

    def client(self, tracking_uri=None):
        self.uris.append(tracking_uri)
        return self

    def get_experiment_by_name(self, name):
        known = self.experiments.get(name)
        return known and SimpleNamespace(experiment_id=known)

    def create_experiment(self, name):
        return self.experiments.setdefault(name, f"experiment-{name}")

    def create_run(self, experiment_id, run_name):
        run_id = f"run{len(self.runs)}"
        run = {"name": run_name, "experiment": experiment_id, "status": "RUNNING"}
        self.runs[run_id] = run | {"metrics": [], "params": {}}
        return SimpleNamespace(info=SimpleNamespace(run_id=run_id))

    def update_run(self, run_id, status):
        self.runs[run_id]["status"] = status

    def log_batch(self, run_id, metrics=(), params=()):
        assert len(params) <= 100
        self.runs[run_id]["metrics"] += [(m.key, m.value, m.step) for m in metrics]
        self.runs[run_id]["params"] |= {p.key: p.value for p in params}

    def set_terminated(self, run_id):
        self.runs[run_id]["status"] = "FINISHED"


@pytest.fixture
def mlflow(monkeypatch):
    fake, module, entities = FakeMlflow(), ModuleType("mlflow"), ModuleType("mlflow.entities")
    module.__spec__ = ModuleSpec("mlflow", None, origin="a stand-in")
    module.MlflowClient = fake.client
    entities.Metric = lambda key, value, timestamp, step: SimpleNamespace(
        key=key, value=value, step=step
    )
    entities.Param = lambda key, value: SimpleNamespace(key=key, value=value)
    monkeypatch.setitem(sys.modules, "mlflow", module)
    monkeypatch.setitem(sys.modules, "mlflow.entities", entities)
    for variable in trackers.MLFLOW_PATIENCE:
        monkeypatch.setenv(variable, "1")
    return fake


MLFLOW = TrackingConfig(mlflow={"tracking_uri": "http://server", "experiment": "support"})


def test_mlflow_gets_numbers_and_settings(mlflow, tmp_path):
    settings = {f"key{i}": i for i in range(250)}
    [tracker] = start_trackers(MLFLOW, tmp_path, "demo/nlirg", settings)
    tracker.log(10, {"loss": 2.5, "loss_by_task/客户?": 1.5})
    tracker.close()
    run = mlflow.runs["run0"]
    assert mlflow.uris == ["http://server"]
    assert (run["name"], run["experiment"]) == ("demo/nlirg", "experiment-support")
    assert run["metrics"] == [("loss", 2.5, 10), ("loss_by_task/客户_", 1.5, 10)]
    assert run["params"] == {key: str(value) for key, value in settings.items()}
    assert run["status"] == "FINISHED"


def test_a_resumed_run_continues_its_mlflow_run(mlflow, tmp_path):
    for step in (1, 2):
        [tracker] = start_trackers(MLFLOW, tmp_path, "run", {})
        tracker.log(step, {"loss": 1.0})
        tracker.close()
    assert [step for _, _, step in mlflow.runs["run0"]["metrics"]] == [1, 2]
    assert list(mlflow.runs) == ["run0"]


def test_a_tracker_that_does_not_start_stops_a_new_run_but_not_a_resumed_one(
    mlflow, tmp_path, caplog, monkeypatch
):
    def refuse(*args, **kwargs):
        raise ConnectionError("no route\nto host")

    with monkeypatch.context() as broken:
        broken.setattr(mlflow, "create_run", refuse)
        with pytest.raises(InputError, match="mlflow could not start: no route to host"):
            start_trackers(MLFLOW, tmp_path, "run", {})
    start_trackers(MLFLOW, tmp_path, "run", {})
    monkeypatch.setattr(mlflow, "update_run", refuse)
    assert start_trackers(MLFLOW, tmp_path, "run", {}) == []
    assert "goes on without it" in caplog.text


def test_wandb_keeps_its_run_over_a_resume(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    config = TrackingConfig(wandb={"project": "nlirg", "mode": "offline"})
    for step in (1, 2):
        [tracker] = start_trackers(config, tmp_path, "demo", {"learning_rate": 1e-4})
        tracker.log(step, {"loss": 2.5, "loss_by_task/reply": 1.5})
        tracker.close()
    run_id = json.loads((tmp_path / trackers.RUN_IDS).read_text())["wandb"]
    files = sorted(tmp_path.glob("wandb/offline-run-*/*.wandb"))
    assert {path.name for path in files} == {f"run-{run_id}.wandb"}
    for path in files:
        content = path.read_bytes()
        assert b"loss_by_task/reply" in content
        assert b"learning_rate" in content


def test_no_tracker_no_file(tmp_path):
    assert start_trackers(TrackingConfig(), tmp_path, "run", {}) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "settings",
    [
        {"wandb": {"api_key": "x"}},
        {"wandb": {"WANDB_API_KEY": "x"}},
        {"mlflow": {"tracking_token": "x"}},
        {"mlflow": {"password": "x"}},
        {"mlflow": {"tracking_uri": "https://me:x@server"}},
    ],
)
def test_secrets_are_refused_without_repeating_them(settings):
    with pytest.raises(InputError, match=r"train\.tracking") as error:
        check_tracking(TrackingConfig(**settings))
    assert "\n" not in str(error.value)
    assert "me:x" not in str(error.value)


def test_settings_that_are_unknown_or_the_runs_own_are_refused(mlflow):
    with pytest.raises(InputError, match=r"wandb\.resume is set by the run itself"):
        check_tracking(TrackingConfig(wandb={"resume": "never"}))
    with pytest.raises(InputError, match=r"mlflow\.uri is unknown"):
        check_tracking(TrackingConfig(mlflow={"uri": "http://server"}))


def test_a_missing_library_is_named_with_its_extra(monkeypatch, tmp_path):
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install nlirg\[wandb\]"):
        check_tracking(TrackingConfig(wandb={"project": "x"}))
    # The folder that wandb writes into looks like a package without any code.
    monkeypatch.setattr(trackers, "find_spec", lambda name: ModuleSpec(name, None))
    with pytest.raises(InputError, match=r"pip install nlirg\[mlflow\]"):
        check_tracking(MLFLOW)
