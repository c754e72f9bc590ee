"""The page of a scored corpus: what jumps out, histograms, heat maps, escaping."""

import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from eval.report.corpus.findings import findings
from eval.report.corpus.heatmap import (
    MOST_TOKENS,
    chat_heatmap,
    scored_tokens,
    spelled,
    text_heatmap,
)
from eval.report.corpus.histogram import HistogramCounts
from eval.report.corpus.model import Repeats
from eval.report.corpus.page import render_corpus
from eval.report.corpus.reasons import reasons
from eval.report.wording import shortened
from nlirg.corpus.profile import CorpusProfile, DuplicateCount
from nlirg.labels import IGNORE
from tests.eval.corpus_report_fixture import SAME, listed_corpus, make_corpus, type_profile
from tests.eval.report_fixture import HOSTILE

BYTES = [bytes([value]) for value in range(256)]


def decode(ids: list[int]) -> str:
    """A tokenizer whose tokens are bytes."""
    return b"".join(BYTES[i] for i in ids).decode(errors="replace")


def leads(**changes) -> list[str]:
    return [finding.lead for finding in findings(make_corpus(**changes))]


def of_all(**changes) -> CorpusProfile:
    found = type_profile(**changes)
    return CorpusProfile(all=found, types=[found], duplicates=[])


def test_nothing_stands_out_of_an_ordinary_corpus():
    assert leads() == []
    assert "Nothing." in render_corpus(make_corpus())


def test_a_thousand_rows_with_one_answer_come_first():
    told = findings(
        make_corpus(
            of_all(answers=((SAME, 1000),), openings=(("Thank you", 1100),)),
            bands=(4000, 300, 100, 600),
            quarantined={"answer is empty": 40, "row is a list, not an object": 3},
        )
    )
    assert [finding.lead for finding in told] == [
        "1,000 of 5,000 rows have the same answer",  # and so they open alike: said once
        "12% of the rows are suspect",
        "43 rows set aside (0.9%)",
    ]
    assert told[0].proof.startswith(f"“{SAME}”: ")
    assert "40 for “answer is empty”, 3 for “row is a list, not an object”;" in told[2].proof


def test_labels_may_repeat():
    (text,) = findings(make_corpus(of_all(answers=((SAME, 1000),))))
    (label,) = findings(make_corpus(of_all(answers=(("yes", 1000),), median=1)))
    assert label.severity < text.severity
    assert "labels" in label.proof


def test_an_answer_is_told_of_the_task_type_where_it_is_commonest():
    same = ((SAME, 900),)
    everything = type_profile(answers=same)
    types = [type_profile("letters", 1000, same), type_profile("rest", 4000)]
    found = leads(profile=CorpusProfile(all=everything, types=types, duplicates=[]))
    assert found == ["900 of 1,000 rows in letters have the same answer"]


@pytest.mark.parametrize(
    ("changes", "lead"),
    [
        ({"profile": of_all(openings=(("Thank", 1500),))}, "30% of the answers open alike"),
        ({"truncated": 500}, "500 rows cut at the context length"),
        ({"zones": (0.4, 0.4, 0.1, 0.1)}, "10% of the answer tokens are out of reach"),
        ({"zones": (0.9, 0.1, 0, 0)}, "The model knows 90% of the answer tokens already"),
        (
            {"profile": of_all(languages={"en": 0.95, "zh": 0.03, "und": 0.02})},
            "3% of the answers are not in en",
        ),
    ],
)
def test_each_fault_has_its_sentence(changes, lead):
    assert leads(**changes) == [lead]


def test_repeated_rows_are_told_and_prompts_only_beyond_them():
    def repeated(of, rows):
        return DuplicateCount(of=of, kind="near", rows=rows, groups=2, largest=9, example="x")

    profile = of_all().model_copy(
        update={"duplicates": [repeated("row", 1000), repeated("prompt", 1100)]}
    )
    assert leads(profile=profile) == ["1,000 of 5,000 rows repeat another row, or nearly"]
    profile.duplicates[1] = repeated("prompt", 4000)
    assert "4,000 of 5,000 rows repeat a prompt, or nearly" in leads(profile=profile)


@given(
    values=arrays(float, st.integers(1, 300), elements=st.floats(0, 60)),
    cut=st.integers(0, 300),
)
def test_histograms_count_every_value_once_whatever_the_batches(values, cut):
    whole, parts = HistogramCounts(0.01), HistogramCounts(0.01)
    whole.add(values)
    parts.add(values[:cut])
    parts.add(values[cut:])
    drawn = whole.histogram("loss", "nats")
    assert drawn == parts.histogram("loss", "nats")
    assert sum(drawn.counts) + drawn.beyond == len(values)
    assert drawn.start <= values.min() + 1e-6
    below = np.count_nonzero(values < drawn.start + drawn.width * len(drawn.counts) - 1e-6)
    assert below <= sum(drawn.counts)


def test_histogram_of_known_values():
    counts = HistogramCounts(1)
    counts.add(np.array([1, 1, 2, 3, np.nan, 10.0]))
    drawn = counts.histogram("tokens", "")
    assert (drawn.start, drawn.width, drawn.median) == (1, 1, 2)
    assert drawn.counts == [2, 1, 1, 0, 0, 0, 0, 0, 0, 1]
    assert counts.share_below(3) == 0.6
    assert HistogramCounts(1).share_below(3) == 0


def test_a_long_tail_does_not_stretch_the_axis():
    counts = HistogramCounts(1)
    counts.add(np.r_[np.arange(1000) % 100, 1e9])
    drawn = counts.histogram("tokens", "")
    assert drawn.start + drawn.width * len(drawn.counts) <= 110
    assert drawn.beyond == 1


@given(st.text(max_size=60))
def test_pieces_joined_are_the_text_and_every_token_is_in_one(text):
    ids = list(text.encode())
    pieces = list(spelled(ids, decode))
    assert "".join(text for _, _, text in pieces) == text
    assert [i for start, stop, _ in pieces for i in range(start, stop)] == list(range(len(ids)))


def conversation(answers: list[str], prompt: str = "Q:") -> tuple[list[dict], list[int], list[int]]:
    messages, ids, labels = [], [], []
    for answer in answers:
        messages += [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
        asked, said = list(prompt.encode()), list(f"\n{answer}$".encode())  # a template's frame
        ids += asked + said
        labels += [IGNORE] * len(asked) + said
    return messages, ids, labels


def span(answer: int, start: int, end: int, score: float = 3.0) -> dict:
    found = {"answer": answer, "start": start, "end": end, "score": score}
    return found | {"pattern": "hard", "mean_loss": 5.0, "mean_entropy": 4.0}


def marked(turn) -> list[str]:
    return [piece.text for piece in turn.pieces if piece.span >= 0]


def test_spans_are_marked_in_the_answer_they_are_of():
    messages, ids, labels = conversation(["one two", "价格不对 ok"])
    loss = np.arange(sum(label != IGNORE for label in labels), dtype=float)
    spans = [span(1, 2, 4, 2.5), span(0, 4, 7, 9.0)]
    scored = scored_tokens(ids, labels, loss, loss / 10, spans)
    found = chat_heatmap(scored, messages, "all", decode, ["why"])
    assert [turn.role for turn in found.turns] == ["user", "assistant"] * 2
    assert marked(found.turns[1]) == list("two")
    assert marked(found.turns[3]) == ["不", "对"]
    assert {piece.span for piece in found.turns[1].pieces} == {-1, 0}  # the worst span is 0
    first = found.turns[1].pieces[0]
    assert (first.text, first.loss, first.entropy) == ("\n", 0.0, 0.0)
    # A character of three tokens has the largest of their losses.
    price = found.turns[3].pieces[1]
    assert (price.text, price.loss) == ("价", 12.0)


def test_of_the_last_answer_alone_the_others_are_text():
    messages, ids, labels = conversation(["one", "two"])
    cut = len("Q:\none$")
    labels[:cut] = [IGNORE] * cut
    scored = scored_tokens(ids, labels, np.ones(5), None, [span(1, 0, 3)])
    found = chat_heatmap(scored, messages, "last", decode, [])
    assert found.turns[1].text == "one"
    assert not found.turns[1].pieces
    assert marked(found.turns[3]) == list("two")
    assert {piece.entropy for piece in found.turns[3].pieces} == {None}


def test_a_long_document_is_shown_around_its_worst_span():
    text = "字" * 900 + "WRONG" + "字" * 900
    ids = list(text.encode())
    spans = [span(0, 900, 905), span(0, 3, 4, 2.0)]
    scored = scored_tokens(ids, ids, np.ones(len(ids)), None, spans)
    (turn,) = text_heatmap(scored, text, decode, []).turns
    assert marked(turn) == list("WRONG")
    assert "\ufffd" not in turn.pieces[0].text
    tokens = sum(len(piece.text.encode()) for piece in turn.pieces[:-1])
    assert tokens <= MOST_TOKENS
    assert turn.before + turn.after + MOST_TOKENS == len(ids)
    assert len(text_heatmap(scored, text, decode, []).flags) == 1  # the other is out of sight


def test_reasons_say_what_is_unusual():
    counts = HistogramCounts(0.01)
    counts.add(np.linspace(0, 5, 1000))
    histograms = {"mean_loss": counts, "n_trained": counts}
    row = {"band": "suspect", "similarity": 0.2, "mean_loss": 4.95, "zone_discarded": 0.1}
    row |= {"n_trained": 1, "truncated": True, "anomaly": 3.0}
    told = " | ".join(reasons(row, [span(0, 1, 2)] * 2, Repeats(answer=1000), histograms))
    for part in ("2 places", "similarity 0.20", "99% of the rows", "10%", "1,000 times", "cut"):
        assert part in told
    calm = row | {"band": "high", "mean_loss": 1, "zone_discarded": 0, "truncated": False}
    assert reasons(calm, [], Repeats(), histograms)[0].startswith("anomaly score 3;")


def test_hostile_text_is_escaped_everywhere():
    text = render_corpus(listed_corpus())
    assert HOSTILE not in text
    assert "<img" not in text
    assert text.count("<script") == text.count("</script>") == 2
    (data,) = re.findall(r'<script id="data" type="application/json">(.*?)</script>', text, re.S)
    assert "<" not in data
    assert HOSTILE in json.loads(data)["rows"][0]
    assert "\u202e" not in text
    assert not re.search(r'(src|href)="(?!data:,|#)', text)


def test_texts_are_cut_between_characters():
    def size(text: str) -> int:
        return len(text.encode())

    for text in ("价" * 100, "a价" * 50, "a" * 100):
        for limit in range(4, 40):
            cut = shortened(text, limit, size)
            assert limit - 3 < size(cut) <= limit
            assert text.startswith(cut.removesuffix("…"))
    assert shortened("abc", 3) == "abc"


def test_ten_thousand_rows_make_a_file_of_a_few_megabytes():
    text = render_corpus(listed_corpus(10_000, heat=100))
    assert len(text.encode()) < 6e6
