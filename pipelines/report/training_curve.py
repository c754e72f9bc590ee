"""What one arm's training logged, as the report shows it."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cluster.rundir import StageFolder
from eval.schema.report import GuardCurve, TrainingCurve, ValidationCurve, WeightMap
from nlirg.config.training import GuardConfig, TrainConfig
from nlirg.monitoring.alarm import Alarm
from nlirg.training.step_metrics import BIN_WIDTH
from nlirg.weighting.zones import ZONES

COLUMNS = 80  # of the weight map


def training_curve(stage: StageFolder, train: TrainConfig) -> TrainingCurve:
    """Read one arm's `metrics.jsonl` and `alarms.jsonl`."""
    records = _lines(stage.path / "metrics.jsonl")
    # Where every step was skipped there is no loss to draw.
    rows = [row for row in records if None not in (row["loss"], row["weighted_loss"])]
    summary = stage.summary()
    return TrainingCurve(
        steps=[row["step"] for row in rows],
        loss=[row["loss"] for row in rows],
        weighted_loss=[row["weighted_loss"] for row in rows],
        zones={zone: [row[zone] for row in rows] for zone in ZONES},
        loss_by_task=loss_by(rows, "loss_by_task"),
        loss_by_source=loss_by(rows, "loss_by_source"),
        weights=weight_map(rows) if rows else None,
        validation=validation_curve(records),
        guard=guard_curve(records, train.guard),
        alarms=[Alarm(**line) for line in _lines(stage.path / "alarms.jsonl")],
        trained_tokens=summary["trained_tokens"],
        optimizer_steps=summary["optimizer_steps"],
        settings={
            "weighting": train.weighting.name,
            "token_batch": str(train.token_batch),
            "batch_size": str(train.batch_size),
            "learning_rate": f"{train.learning_rate:g}",
            "epochs": f"{train.epochs:g}",
            **_keeping(train),
            "parameters": f"LoRA rank {train.lora.rank}" if train.lora else "all",
        },
    )


def _keeping(train: TrainConfig) -> dict[str, str]:
    """What the run does to keep what the model knows, in words."""
    found = {}
    if train.replay is not None:
        found["replay"] = f"{train.replay.share:.0%} {train.replay.objective}"
    if train.guard is not None:
        guard = train.guard
        found["guard"] = f"{guard.metric} +{guard.max_rise:g}" + (" stops" if guard.stop else "")
    return found


def loss_by(rows: Sequence[dict[str, Any]], kind: str) -> dict[str, list[float]]:
    """Return losses at every record by a key of it, NaN where nothing of a name was trained."""
    names = dict.fromkeys(name for row in rows for name in row[kind])
    return {name: [row[kind].get(name, math.nan) for row in rows] for name in names}


def guard_curve(records: Sequence[dict[str, Any]], config: GuardConfig | None) -> GuardCurve | None:
    """Return a guard's readings among log records, from before the first step; None without one."""
    readings = [record for record in records if "general_loss" in record]
    if config is None or not readings:
        return None
    first = readings[0]

    def values(key: str, start: str) -> list[float]:
        found = [first[start], *(record[key] for record in readings)]
        return [math.nan if value is None else value for value in found]

    kl = values("general_kl", "general_base_kl")
    return GuardCurve(
        steps=[0, *(record["step"] for record in readings)],
        loss=values("general_loss", "general_base_loss"),
        kl=kl if any(map(math.isfinite, kl)) else [],
        metric=config.metric,
        max_rise=config.max_rise,
    )


def validation_curve(records: Sequence[dict[str, Any]]) -> ValidationCurve | None:
    """Return the validations among log records; None if there was none."""
    validations = [record for record in records if "validation_loss" in record]
    if not validations:
        return None
    losses = [record["validation_loss"] for record in validations]
    return ValidationCurve(
        steps=[record["step"] for record in validations],
        loss=[math.nan if loss is None else loss for loss in losses],
        base_loss=validations[-1]["validation_base_loss"],
    )


def weight_map(rows: Sequence[dict[str, Any]]) -> WeightMap:
    """Sum the records' weight histograms into at most `COLUMNS` columns and normalise each.

    Args:
        rows: log records in order, at least one.
    """
    parts = min(COLUMNS, len(rows))
    steps = np.array_split(np.array([row["step"] for row in rows]), parts)
    mass = np.array([row["weight_histogram"] for row in rows], dtype=float)
    columns = np.stack([part.sum(axis=0) for part in np.array_split(mass, parts)])
    total = columns.sum(axis=1, keepdims=True)
    shares = np.divide(columns, total, out=np.zeros_like(columns), where=total > 0)
    return WeightMap(
        steps=[float(part.mean()) for part in steps],
        bin_width=BIN_WIDTH,
        shares=shares.round(4).tolist(),
    )


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
