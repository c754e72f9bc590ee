"""What the report takes from an arm's logs."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster.rundir import StageFolder
from nlirg.config.training import TrainConfig
from nlirg.monitoring.alarm import Alarm
from nlirg.training.step_metrics import BIN_WIDTH, LOSS_BINS
from nlirg.weighting.zones import ZONES
from pipelines.report.training_curve import COLUMNS, training_curve, weight_map
from tests.road import trained


def record(step: int, **changes: Any) -> dict[str, Any]:
    weights = [0.0] * len(LOSS_BINS)
    weights[step % 2] = 3.0
    zones = dict.fromkeys(ZONES, 0.25)
    row = {"step": step, "loss": 2.0, "weighted_loss": 1.0, "weight_histogram": weights, **zones}
    return row | {"loss_by_task": {"triage": 2.0}, "loss_by_source": {"corpus": 2.0}} | changes


def write_arm(
    folder: Path, rows: list[dict[str, Any]], alarms: list[dict[str, Any]]
) -> StageFolder:
    for name, lines in (("metrics", rows), ("alarms", alarms)):
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    stage = StageFolder(folder)
    stage.succeed("x", trained(trained_tokens=40, optimizer_steps=4))
    return stage


def test_losses_of_task_types_have_a_gap_where_none_of_their_tokens_were_trained(tmp_path) -> None:
    rows = [record(1), record(2, loss_by_task={"reply": 1.5})]
    curve = training_curve(write_arm(tmp_path, rows, []), TrainConfig())
    assert curve.loss_by_task["triage"][0] == 2.0
    assert math.isnan(curve.loss_by_task["triage"][1])
    assert curve.loss_by_task["reply"][1] == 1.5
    assert curve.alarms == []


def test_records_of_skipped_steps_are_left_out_of_every_list(tmp_path) -> None:
    rows = [record(1), record(2, loss=None, weighted_loss=None, loss_by_task={}), record(3)]
    curve = training_curve(write_arm(tmp_path, rows, []), TrainConfig())
    assert curve.steps == [1, 3]
    lists = [curve.loss, curve.weighted_loss, *curve.zones.values(), *curve.loss_by_task.values()]
    assert {len(values) for values in lists} == {2}


def test_alarms_are_those_of_the_file(tmp_path) -> None:
    alarm = {"kind": "stairs", "step": 2, "message": "fewer epochs"}
    curve = training_curve(write_arm(tmp_path, [record(1)], [alarm]), TrainConfig())
    assert curve.alarms == [Alarm(**alarm)]


def test_a_run_that_logged_nothing_has_no_weight_map(tmp_path) -> None:
    assert training_curve(write_arm(tmp_path, [], []), TrainConfig()).weights is None


@pytest.mark.parametrize("records", [1, COLUMNS, 10 * COLUMNS + 3])
def test_a_weight_map_has_few_columns_of_shares_in_the_order_of_steps(records) -> None:
    found = weight_map([record(step) for step in range(records)])
    assert len(found.steps) == len(found.shares) == min(records, COLUMNS)
    assert found.steps == sorted(found.steps)
    assert found.bin_width == BIN_WIDTH
    assert np.sum(found.shares, axis=1) == pytest.approx(1, abs=1e-3)


def test_neighbouring_records_are_weighed_by_their_weights() -> None:
    light, heavy = [1.0, 0.0], [0.0, 3.0]
    rows = [record(i, weight_histogram=heavy if i % 2 else light) for i in range(2 * COLUMNS)]
    assert weight_map(rows).shares == [[0.25, 0.75]] * COLUMNS


def test_a_column_without_any_weight_stays_empty() -> None:
    assert weight_map([record(1, weight_histogram=[0.0, 0.0])]).shares == [[0.0, 0.0]]


def test_validations_are_read_even_where_every_step_was_skipped(tmp_path) -> None:
    measured = {"validation_base_loss": 2.5}
    rows = [
        record(1, validation_loss=2.0, **measured),
        record(2),
        record(3, loss=None, weighted_loss=None, validation_loss=None, **measured),
    ]
    curve = training_curve(write_arm(tmp_path, rows, []), TrainConfig())
    assert curve.validation is not None
    assert curve.validation.steps == [1, 3]
    assert curve.validation.loss[0] == 2.0
    assert math.isnan(curve.validation.loss[1])
    assert curve.validation.base_loss == 2.5


def test_a_run_without_validation_has_no_curve_of_it(tmp_path) -> None:
    assert training_curve(write_arm(tmp_path, [record(1)], []), TrainConfig()).validation is None
