"""Training metrics as Ray metrics, for the cluster's Prometheus and Grafana dashboards."""

from __future__ import annotations

from typing import Any

# Keys of a log record, and what the dashboard says of them.
GAUGES = {
    "step": "optimizer steps done",
    "loss": "mean unweighted token loss, nats",
    "weighted_loss": "mean weighted training objective",
    "validation_loss": "mean token loss on held-out samples, nats",
    "general_loss": "mean token loss on general text, nats",
    "general_kl": "KL(base || model) per token of the base model's own answers, nats",
    "mean_weight": "mean token weight",
    "low": "share of tokens in the low loss zone",
    "mid": "share of tokens in the mid loss zone",
    "high": "share of tokens in the high loss zone",
    "discarded": "share of tokens discarded",
    "grad_norm": "global gradient norm before clipping",
    "lr": "learning rate",
    "tokens_per_s": "trained tokens per second",
    "processed_tokens_per_s": "input tokens per second, without padding",
    "mfu": "model FLOPs utilisation",
    "memory_gb": "peak memory of the first worker, GB",
    "skipped_steps": "steps that changed nothing",
}


class RayMetrics:
    """Gauges `nlirg_train_<key>` of one training run; only on a worker or driver of a cluster.

    Args:
        run: name of the run, a tag of every gauge.
        arm: name of the arm, another.
    """

    def __init__(self, run: str, arm: str) -> None:
        from ray.util.metrics import Gauge

        tags = {"run": run, "arm": arm}
        self._gauges = {
            key: Gauge(f"nlirg_train_{key}", text, tuple(tags)).set_default_tags(tags)
            for key, text in GAUGES.items()
        }

    def write(self, record: dict[str, Any]) -> None:
        """Show the numbers of a record; keys it lacks keep their last value."""
        for key, gauge in self._gauges.items():
            gauge.set(record.get(key))
