"""metrics.jsonl and TensorBoard."""

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from nlirg.tracking import MetricsLog, last_record, read_metrics


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
