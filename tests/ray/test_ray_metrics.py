"""Training metrics arrive where Prometheus collects them."""

import time
from urllib.request import urlopen

import pytest

pytestmark = pytest.mark.ray


def exported(address: str) -> list[str]:
    with urlopen(address, timeout=10) as response:
        lines = response.read().decode().splitlines()
    return [line for line in lines if "nlirg_train_" in line and not line.startswith("#")]


def test_gauges_are_exported_with_run_and_arm(ray_cluster):
    import ray

    from pipelines.train.ray_metrics import RayMetrics

    metrics = RayMetrics("support", "nlirg")
    metrics.write({"step": 10, "loss": 2.5, "grad_norm": None, "loss_by_task": {"reply": 1.0}})
    metrics.write({"step": 20, "loss": 1.5})
    node = ray.nodes()[0]
    address = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    deadline = time.monotonic() + 60
    lines = []
    while not lines and time.monotonic() < deadline:
        time.sleep(0.5)
        lines = exported(address)
    values = {line.split("{")[0]: float(line.rsplit(" ", 1)[1]) for line in lines}
    assert values == {"ray_nlirg_train_step": 20, "ray_nlirg_train_loss": 1.5}
    for line in lines:
        assert 'run="support"' in line
        assert 'arm="nlirg"' in line
