"""The benchmarks' code at toy size, so that it keeps running; no figure is judged here."""

import json
from pathlib import Path

import pytest

from tests.bench import padding, whole
from tests.bench.keeping import compare_keeping
from tests.bench.measure import Comparison, Costs, Work, measure
from tests.bench.naive import NaiveLoop
from tests.bench.ours import TrainerSteps
from tests.bench.report import report
from tests.bench.shapes import TOY_CORPUS, TOY_MODEL, ModelShape, settings, torch_engine
from tests.bench.windows import compare_windows

pytestmark = pytest.mark.soak


def test_the_model_has_12_9_million_parameters() -> None:
    assert round(ModelShape().parameters() / 1e6, 1) == 12.9


def test_naive_and_ours_train_the_same_tokens_to_the_same_weights() -> None:
    config = settings(token_batch=10, batch_size=2, learning_rate=1e-3)
    corpus = TOY_CORPUS.build(4, TOY_MODEL.vocabulary)
    model, engine = TOY_MODEL.build(), torch_engine(TOY_MODEL, config)
    naive = NaiveLoop(model, corpus, config, range(4))()
    ours = TrainerSteps(engine, corpus, config, [(0, 3), (3, 1)])()
    assert naive.tokens == ours.tokens == corpus.n_trained.sum()
    trained = dict(engine._module.named_parameters())
    for name, weight in model.named_parameters():
        assert weight.detach().numpy() == pytest.approx(trained[name].detach().numpy(), abs=1e-4), (
            name
        )


@pytest.mark.parametrize("lora", [False, True])
def test_windows(lora: bool) -> None:
    costs, rows = compare_windows(TOY_MODEL, TOY_CORPUS, 2, rounds=1, lora=lora)
    assert set(costs.by_variant) == {"naive", "full", "0", "128"}
    assert "cosine 1.000" in rows[-1].note, "128 tokens of context are the whole of a toy sample"


def test_whole_samples(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(whole, "STEPS", 2)
    costs, rows = whole.compare_whole(TOY_MODEL, TOY_CORPUS, 2, rounds=1)
    assert {"ours", "bare torch loop", "transformers Trainer"} <= set(costs.by_variant)
    report([costs], rows, {}, tmp_path / "out.json")
    assert len(json.loads((tmp_path / "out.json").read_text())["ratios"]) == len(rows)


def test_keeping() -> None:
    rows = compare_keeping(TOY_MODEL, TOY_CORPUS, rounds=1, steps=4)
    assert [row.goal for row in rows] == [1.05, None, None]


def test_grouping_by_length_computes_less_padding() -> None:
    corpus = padding.alpaca_like(16, TOY_MODEL.vocabulary)
    config = settings(token_batch="all", batch_size=8)
    grouped = padding.padding_share(TOY_MODEL, corpus, config, 2)
    with padding._forward_overhead(padding.NEVER):
        together = padding.padding_share(TOY_MODEL, corpus, config, 2)
    assert grouped < together


def test_ratios_are_taken_round_by_round() -> None:
    turns = iter([1.0, 1.0, 4.0, 2.0, 9.0, 3.0])
    variants = {name: lambda: Work(next(turns), 2) for name in ("slow", "fast")}
    costs = measure("", variants, rounds=2)
    assert costs == Costs("", {"slow": [2.0, 4.5], "fast": [1.0, 1.5]})
    row = Comparison.of("", "", costs.ratios("slow", "fast"), goal=2.5)
    assert (row.median, row.low, row.high, row.met) == (2.5, 2.0, 3.0, True)
    assert Comparison.of("", "", [1.1], goal=1.05, at_least=False).met is False
