"""The benchmark of detectors at toy size, with answers that are known."""

import json
from functools import partial
from random import Random

import numpy as np
import pytest

from nlirg.labels import IGNORE
from nlirg.models.loading import load_tokenizer
from nlirg.scoring.scores import TokenScores
from tests.bench.corpus import detectors
from tests.bench.corpus.injections import INJECTIONS, alpaca, skills, tickets
from tests.bench.corpus.ranking import (
    DIRECTIONS,
    MIXED,
    RATES,
    Pool,
    auroc,
    average_precision,
    corpus_of,
    evaluate,
)

pytestmark = pytest.mark.soak

BAD = np.arange(20) < 4


class LengthScorer:
    """Finds every token of a sample as unlikely as the sample is long."""

    def score(self, samples) -> list[TokenScores]:
        found = []
        for ids, labels in samples:
            count = int(np.sum(np.asarray(labels[1:]) != IGNORE))
            loss = np.full(count, len(ids) / 100, np.float32)
            found.append(TokenScores(loss, loss / 2, np.ones_like(loss)))
        return found


def known_pool(separation: float) -> Pool:
    """200 rows whose every column is noise, plus `separation` where there is an error."""
    noise = np.random.default_rng(0).normal(size=(200, 1 + len(INJECTIONS)))
    noise[:, 1:] += separation
    noise[:50, 1] = np.nan
    return Pool(np.full(200, "one"), dict.fromkeys(DIRECTIONS, noise))


def test_a_perfect_order_a_reversed_one_and_none() -> None:
    assert auroc(BAD * 1.0, BAD) == average_precision(BAD * 1.0, BAD) == 1
    assert auroc(-1.0 * BAD, BAD) == 0
    assert auroc(np.zeros(20), BAD) == 0.5
    assert average_precision(np.zeros(20), BAD) == 0.2, "all tie: the share of bad rows"


def test_figures_of_an_order_worked_out_by_hand() -> None:
    scores, bad = np.array([5.0, 4.0, 4.0, 2.0, 1.0]), np.array([True, True, False, False, True])
    assert auroc(scores, bad) == pytest.approx((2 + 1.5 + 0) / 6)
    assert average_precision(scores, bad) == pytest.approx((1 + 2 / 3 + 3 / 5) / 3)


def test_a_perfect_detector_has_one_and_random_a_half() -> None:
    cells = evaluate(known_pool(100.0), seeds=[0])
    for kind in (*INJECTIONS, MIXED):
        for rate in RATES:
            assert cells[kind, rate, "+mean_loss"] == ([1.0], [1.0])
            assert cells[kind, rate, "-length"].auroc == [0.0]
    chance = [cell.auroc for (_, _, name), cell in cells.items() if name == "random"]
    assert np.mean(chance) == pytest.approx(0.5, abs=0.1)


def test_a_corpus_has_the_errors_that_were_asked_for() -> None:
    pool = known_pool(0.0)
    rows, version = corpus_of(pool, "swapped", 0.1, seed=3, drawn=150)
    assert len(set(rows.tolist())) == 150
    assert np.bincount(version).tolist() == [135, 15]
    assert rows[version == 1].min() >= 50, "rows that cannot carry the error have none"
    _, version = corpus_of(pool, MIXED, 0.2, seed=3, drawn=150)
    assert np.bincount(version).tolist() == [120] + [6] * 5
    assert (corpus_of(pool, "wrong", 0.01, 0, drawn=10)[1] > 0).sum() == 1, "at least one"


@pytest.mark.parametrize("make", [tickets, skills])
def test_injections_into_the_demo_world(make) -> None:
    world, rng = make(5, 40), Random(0)
    assert make(5, 40).rows == world.rows
    for row in world.rows:
        texts = {kind: inject(rng, row, world) for kind, inject in INJECTIONS.items()}
        assert all(text.strip() for text in texts.values())
        assert sorted(texts["garbled"]) == sorted(row.answer)
        assert row.answer.startswith(texts["truncated"])
        assert texts["wrong"] in {o.answer for o in world.rows if o.task_type == row.task_type}
        assert texts["foreign"] != row.answer
    assert world.pattern.sub("", texts["swapped"]) == world.pattern.sub("", row.answer)


def test_every_slot_of_a_ticket_is_swapped() -> None:
    world = tickets(5, 12)
    for row in world.rows:
        swapped = INJECTIONS["swapped"](Random(1), row, world)
        pairs = zip(*(world.pattern.findall(text) for text in (row.answer, swapped)), strict=True)
        assert all(before != after for before, after in pairs)


def test_a_corpus_of_the_users(tmp_path) -> None:
    answers = [
        "第一句话在这里。第二句话在那里。",
        "只有一句",
        "很长的话。" * 100,
        "",
        "甲乙丙。丁戊己！",
    ]
    rows = [{"instruction": "问", "input": "", "output": answer} for answer in answers]
    path = tmp_path / "corpus.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    world = alpaca(path, 0, 10)
    assert {row.answer for row in world.rows} == {answers[0], answers[1], answers[4]}
    for row in world.rows:
        swapped = INJECTIONS["swapped"](Random(0), row, world)
        assert (swapped == row.answer) == (row.answer == "只有一句")
        assert INJECTIONS["garbled"](Random(1), row, world)


def test_the_benchmark_runs(monkeypatch, capsys) -> None:
    monkeypatch.setattr(detectors, "Scorer", lambda *_: LengthScorer())
    monkeypatch.setattr(detectors, "ROWS", 30)
    monkeypatch.setattr(detectors, "evaluate", partial(evaluate, seeds=range(2), rates=[0.05]))
    monkeypatch.setattr(detectors, "RATES", [0.05])
    rows = detectors.compare_detectors(None)
    assert [row.name for row in rows][:2] == ["skills, swapped", "skills, wrong"]
    shown = capsys.readouterr().out
    assert "No corpus given" in shown
    assert "## tickets: AUROC at 5% bad rows" in shown


def test_rows_without_an_error_are_left_out(monkeypatch) -> None:
    tokenizer = load_tokenizer(detectors.MODEL)
    world = tickets(5, 6)
    pool = detectors.score_pool(world, LengthScorer(), tokenizer)
    assert set(pool.columns) == set(DIRECTIONS)
    assert not np.isnan(pool.columns["mean_loss"]).any()
    monkeypatch.setitem(INJECTIONS, "wrong", lambda rng, row, world: row.answer)
    pool = detectors.score_pool(world, LengthScorer(), tokenizer)
    assert np.isnan(pool.columns["mean_loss"][:, 1 + list(INJECTIONS).index("wrong")]).all()
