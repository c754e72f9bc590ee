"""metrics.jsonl, alarms.jsonl, TensorBoard, and trackers beside them."""

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from nlirg.monitoring.alarms import Alarm
from nlirg.monitoring.heatmap import weight_heatmap
from nlirg.monitoring.metrics_log import MetricsLog, last_record, read_metrics
from nlirg.training.step_metrics import LOSS_BINS


def record(step, **values):
    return {"step": step, "loss": 1.0 / step, "grad_norm": None} | values


def test_a_resumed_log_holds_every_step_once(tmp_path):
    log = MetricsLog(tmp_path)
    for step in (10, 20, 30):
        log.write(record(step))
    log.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 40, "lo')  # the crash cut this line off
    log = MetricsLog(tmp_path, after_step=20)
    log.write(record(30, again=True))
    log.close()
    records = read_metrics(tmp_path / "metrics.jsonl")
    assert [entry["step"] for entry in records] == [10, 20, 30]
    assert records[-1]["again"]


def test_the_last_whole_record_is_found_in_a_long_file(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert last_record(path) is None
    log = MetricsLog(tmp_path)
    for step in range(1, 1001):
        log.write(record(step))
    log.close()
    with path.open("a") as file:
        file.write('{"step": 1001')
    assert last_record(path) == record(1000)


def test_tensorboard_shows_the_numbers_and_no_missing_ones(tmp_path):
    log = MetricsLog(tmp_path)
    log.write(record(1))
    log.write(record(2))
    log.close()
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.step for event in board.Scalars("train/loss")] == [1, 2]
    assert "train/grad_norm" not in board.Tags()["scalars"]


HISTOGRAM = [0.0] * len(LOSS_BINS)


def test_nested_numbers_and_histograms_reach_tensorboard(tmp_path):
    log = MetricsLog(tmp_path)
    counts = [3, 1, *[0] * (len(LOSS_BINS) - 2)]
    log.write(record(1, loss_by_task={"reply": 2.0, "triage": None}, loss_histogram=counts))
    log.close()
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.value for event in board.Scalars("train/loss_by_task/reply")] == [2.0]
    assert "train/loss_by_task/triage" not in board.Tags()["scalars"]
    assert "train/loss_histogram" not in board.Tags()["scalars"]
    shown = board.Histograms("train/loss_histogram")[0].histogram_value
    assert shown.num == 4
    assert dict(zip(shown.bucket_limit, shown.bucket, strict=True))[0.5] == 3


def test_the_weight_heatmap_covers_the_whole_run_after_a_resume(tmp_path):
    for resumed in (0, 3):
        log = MetricsLog(tmp_path, after_step=resumed)
        for step in range(resumed + 1, resumed + 4):
            log.write(record(step, weight_histogram=[1.0, *HISTOGRAM[1:]]))
        log.close()
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    last = board.Images("train/weight_heatmap")[-1]
    assert last.step == 6
    assert last.width == 256 // 6 * 6


def test_the_weight_heatmap_is_bright_where_the_weight_is():
    low, high = np.zeros((2, 33))
    low[0] = high[-1] = 5.0
    image = weight_heatmap([low, high, np.zeros(33)])
    column = image.shape[1] // 3
    bright, dark = image.max(axis=2).max(), image[0, -1]
    assert image[-1, 0].max() == image[0, column].max() == bright  # low losses at the bottom
    assert (image[0, 0] == dark).all()
    assert (image[:, 2 * column :] == dark).all()  # no weight at all
    assert weight_heatmap(np.ones((5000, 33))).shape[1] == 1024


def test_alarms_have_a_file_and_are_rewound_like_records(tmp_path, caplog):
    log = MetricsLog(tmp_path)
    for step in (10, 30):
        log.alarm(Alarm(f"kind{step}", step, "do something"))
    log.close()
    assert "step 10: do something" in caplog.text
    MetricsLog(tmp_path, after_step=20).close()
    assert read_metrics(tmp_path / "alarms.jsonl") == [
        {"kind": "kind10", "step": 10, "message": "do something"}
    ]


class FakeTracker:
    name = "fake"

    def __init__(self, fails_at=None):
        self.fails_at, self.logged, self.closed = fails_at, [], False

    def log(self, step, values):
        if step == self.fails_at:
            raise ConnectionError("server\ngone")
        self.logged.append((step, values))

    def close(self):
        self.closed = True


def test_trackers_get_every_number(tmp_path):
    tracker = FakeTracker()
    log = MetricsLog(tmp_path, trackers=[tracker])
    log.write(record(1, loss_by_task={"reply": 2.0}, loss_histogram=HISTOGRAM))
    log.close()
    assert tracker.logged == [(1, {"loss": 1.0, "loss_by_task/reply": 2.0})]
    assert tracker.closed


def test_a_tracker_that_fails_is_left_out_with_one_warning(tmp_path):
    broken, sound = FakeTracker(fails_at=2), FakeTracker()
    log = MetricsLog(tmp_path, trackers=[broken, sound])
    for step in (1, 2, 3):
        log.write(record(step))
    log.close()
    assert [step for step, _ in broken.logged] == [1]
    assert [step for step, _ in sound.logged] == [1, 2, 3]
    assert len(read_metrics(tmp_path / "metrics.jsonl")) == 3
    [alarm] = read_metrics(tmp_path / "alarms.jsonl")
    assert (alarm["kind"], alarm["step"]) == ("tracker_fake", 2)
    assert "server gone" in alarm["message"]
