"""What the first worker of a training run tells the world: metrics, alarms, dashboards."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import torch

from nlirg.forward.batching import EncodedCorpus
from nlirg.labels import IGNORE
from nlirg.monitoring.alarms import Alarms
from nlirg.monitoring.flops import mfu, peak_flops, training_flops_per_token
from nlirg.monitoring.metrics_log import MetricsLog, read_metrics
from nlirg.monitoring.trackers import start_trackers
from pipelines.train.job import TrainJob
from pipelines.train.ray_metrics import RayMetrics

SAMPLES = 1000


def end_of_turn_share(corpus: EncodedCorpus, end_ids: Collection[int]) -> float:
    """Measure in evenly spread samples how many end on a trained token that ends the turn."""
    indices = np.linspace(0, len(corpus) - 1, min(len(corpus), SAMPLES)).astype(int)
    last = []
    for index in indices.tolist():
        labels = corpus.sample(index).labels
        trained = labels[labels != IGNORE]
        last += [int(trained[-1])] if len(trained) else []
    return float(np.isin(last, list(end_ids)).mean()) if last else 0.0


class Monitor:
    """Takes in the log records of one run.

    Args:
        job: the run.
        corpus: what is trained.
        model_config: of the model, for its FLOPs.
        devices: number of workers.
        step: where the run continues; what was written of later steps is dropped.

    Raises:
        InputError: if a tracker cannot be started.
    """

    def __init__(
        self, job: TrainJob, corpus: EncodedCorpus, model_config: Any, devices: int, step: int
    ) -> None:
        name = f"{job.run}/{job.arm}"
        trackers = start_trackers(job.train.tracking, job.output, name, job.train.meaning())
        self._log = MetricsLog(job.output, after_step=step, trackers=trackers)
        share = None if job.end_ids is None else end_of_turn_share(corpus, job.end_ids)
        self._alarms = Alarms(share, job.train.guard)
        self._alarms.replay(read_metrics(job.output / "metrics.jsonl"))
        self._gauges = RayMetrics(job.run, job.arm)
        self._mfu = _Mfu(job, corpus, model_config, devices)

    def write(self, record: dict[str, Any]) -> None:
        """Log a record, and raise the alarms it gives cause for."""
        record = record | self._mfu.of(record)
        self._log.write(record)
        self._gauges.write(record)
        for alarm in self._alarms.check(record):
            self._log.alarm(alarm)

    def close(self) -> None:
        """Write out what is buffered."""
        self._log.close()


class _Mfu:
    """Model FLOPs utilisation, where the device's peak and the model's FLOPs are known."""

    def __init__(
        self, job: TrainJob, corpus: EncodedCorpus, model_config: Any, devices: int
    ) -> None:
        train, self._devices = job.train, devices
        name = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
        # A cached prefix and a teacher are work that the formula does not count.
        countable = train.gradient_context == "full" and train.distillation is None
        self._peak = peak_flops(name, train.precision) if countable else None
        self._body = self._head = 0.0
        if self._peak is None:
            return
        # To count a model it has to be built; the share of tokens that the head sees is linear.
        lengths = [len(corpus.sample(index).ids) for index in range(min(len(corpus), SAMPLES))]
        context, lora = float(np.mean(lengths)), train.lora is not None
        body, whole = (
            training_flops_per_token(model_config, context, lora, head_share=share) or 0.0
            for share in (0.0, 1.0)
        )
        self._body, self._head = body, whole - body

    def of(self, record: dict[str, Any]) -> dict[str, float]:
        """Return the record's `mfu`, or nothing."""
        processed = record["processed_tokens_per_s"]
        if self._peak is None or not self._body or not processed:
            return {}
        flops = self._body + self._head * record["tokens_per_s"] / processed
        return {"mfu": mfu(flops, processed, self._peak, self._devices)}
