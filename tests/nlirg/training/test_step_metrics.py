"""What a log record says of the steps before it, over all ranks."""

import json
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nlirg.training.step_metrics import LOSS_BINS, StepMetrics, StepRecord, peak_memory_gb
from nlirg.weighting.zones import ZONES

TASKS = ("triage", "reply", "record")
LOSSES = st.one_of(
    st.floats(0, 20, width=32), st.sampled_from([math.nan, math.inf, -1e-7, 0.5, 16.0])
)


class OneRank:
    device = torch.device("cpu")

    def all_reduce_sum(self, tensor):
        return tensor


class Recorded(OneRank):
    """Hands out the sum of what every rank put in."""

    def __init__(self, others=()):
        self.seen, self.others = [], others

    def all_reduce_sum(self, tensor):
        self.seen.append(tensor.clone())
        return tensor + sum(self.others)


def step(losses, weights=None, tasks=None, **changes):
    n = len(losses)
    values = {
        "loss": torch.tensor(losses, dtype=torch.float32),
        "weights": torch.tensor(weights if weights is not None else [1.0] * n),
        "tasks": torch.tensor(tasks if tasks is not None else [0] * n, dtype=torch.int64),
        "sources": torch.zeros(n, dtype=torch.int64),
        "objective": 0.5,
        "trained": True,
        "grad_norm": 2.0,
        "processed_tokens": 30,
        "padded_tokens": 40,
        "seconds": 0.25,
    }
    return StepRecord(**(values | changes))


def flushed(*steps, engine=None):
    metrics = StepMetrics(TASKS)
    for entry in steps:
        metrics.add(entry)
    return metrics.flush(engine or OneRank())


def test_known_answers():
    record = flushed(
        step([1.0, 3.0, math.nan], [0.5, 1.0, 0.0], [0, 2, 2], objective=torch.tensor(0.75)),
        step([15.0], [0.0], [0], objective=0.25, grad_norm=1.5, padded_tokens=80),
    )
    assert record["tokens"] == 4
    assert record["loss"] == pytest.approx(19 / 3)
    assert record["weighted_loss"] == pytest.approx(0.5)
    assert record["mean_weight"] == pytest.approx(1.5 / 4)
    assert [record[zone] for zone in ZONES] == [0.25, 0.25, 0, 0.5]
    assert record["loss_by_task"] == {"triage": 8.0, "record": 3.0}
    assert record["zones_by_task"]["record/mid"] == 0.5
    assert record["zones_by_task"]["triage/discarded"] == 0.5
    assert record["loss_by_source"] == {"": pytest.approx(19 / 3)}
    assert record["zones_by_source"]["/discarded"] == 0.5
    assert record["loss_histogram"][2] == 1  # [1, 1.5)
    assert record["loss_histogram"][-1] == 1  # NaN; 15 has a bin of its own
    assert record["weight_histogram"][6] == 1.0  # [3, 3.5)
    assert record["processed_tokens"] == 60
    assert record["padding_share"] == pytest.approx(0.5)
    assert record["grad_norm"] == 1.5
    assert record["seconds"] == 0.5
    json.dumps(record, allow_nan=False)


def test_skipped_steps_count_as_tokens_but_not_in_the_weighted_loss():
    skipped = step([math.inf], [0.0], trained=False, grad_norm=None, objective=0.0)
    record = flushed(step([1.0], objective=0.5), skipped)
    assert record["tokens"] == 2
    assert record["weighted_loss"] == 0.5
    assert record["grad_norm"] is None
    nothing = flushed(skipped)
    assert nothing["weighted_loss"] is None
    assert nothing["loss"] is None
    assert nothing["loss_by_task"] == {}


TOKENS = st.lists(st.tuples(LOSSES, st.floats(0, 1, width=32), st.integers(0, 2)), max_size=20)


@settings(max_examples=50, deadline=None)
@given(TOKENS, TOKENS)
def test_two_ranks_record_what_one_rank_with_all_tokens_does(first, second):
    def part(tokens, objective, processed):
        losses, weights, tasks = zip(*tokens, strict=True) if tokens else ((), (), ())
        return step(
            list(losses),
            list(weights),
            list(tasks),
            objective=objective,
            processed_tokens=processed,
            padded_tokens=2 * processed,
        )

    together = flushed(part(first + second, 0.75, 50))
    other = Recorded()
    flushed(part(second, 0.5, 20), engine=other)
    rank = Recorded(other.seen)
    record = flushed(part(first, 0.25, 30), engine=rank)
    assert len(rank.seen) == 1  # one collective
    assert rank.seen[0].dtype == torch.float64
    for key in together.keys() - {"memory_gb"}:
        assert record[key] == pytest.approx(together[key], nan_ok=False), key
    assert sum(record["loss_histogram"]) == record["tokens"] == len(first + second)
    assert sum(record["weight_histogram"]) == pytest.approx(sum(w for _, w, _ in first + second))


def test_bins_cover_0_to_16_nats_in_halves_and_everything_above():
    record = flushed(step([0.0, 0.49, 0.5, 15.99, 16.0, 900.0, math.inf]))
    counts = dict(zip(LOSS_BINS, record["loss_histogram"], strict=True))
    assert {low: n for low, n in counts.items() if n} == {0: 2, 0.5: 1, 15.5: 1, 16: 3}


def test_a_flush_starts_anew():
    metrics = StepMetrics(TASKS)
    metrics.add(step([1.0]))
    metrics.flush(OneRank())
    metrics.add(step([2.0, 2.0]))
    assert metrics.flush(OneRank())["tokens"] == 2


def test_adding_a_step_does_not_read_its_tensors():
    meta = torch.empty(3, device="meta")  # reading a value of it raises
    record = step([1.0])
    StepMetrics(TASKS).add(replace(record, loss=meta, weights=meta, objective=meta.sum()))


def test_memory_is_what_this_process_holds():
    block = torch.ones(25_000_000)  # 0.1 GB
    assert 0.1 < peak_memory_gb(block.device) < 100
