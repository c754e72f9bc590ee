"""Spans of tokens as characters: the text of the range is what the tokens say."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, trainers
from transformers import PreTrainedTokenizerFast

from nlirg.chat.encoder import ChatEncoder
from nlirg.corpus.arrangement.packing import document_labels, encode_document, piece_lengths
from nlirg.labels import IGNORE
from nlirg.scoring.divergence import Span
from nlirg.scoring.spans import TrainedAnswer, character_spans, text_spans, trained_answers

TEXTS = st.text(
    st.sampled_from("the answer is yes.\n 退款需要三个工作日，请稍候🙂é"), min_size=1
).filter(lambda text: text.strip())
THINKING = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['role'] == 'assistant' %}<think>\n\n</think>\n\n{% endif %}"
    "{{ message['content'] | trim }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="module")
def byte_fallback() -> PreTrainedTokenizerFast:
    """As Llama's: a space before the text, words marked, unknown characters in bytes."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    special = ["<unk>", "<|im_start|>", "<|im_end|>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=330, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(["▁the▁answer▁is▁yes", "退款"] * 9, trainer)
    # Byte tokens are ordinary ones of the vocabulary.
    rebuilt = Tokenizer.from_str(_without_added_bytes(tokenizer.to_str()))
    return PreTrainedTokenizerFast(tokenizer_object=rebuilt, eos_token="<|im_end|>")


def _without_added_bytes(text: str) -> str:
    found = json.loads(text)
    found["added_tokens"] = [t for t in found["added_tokens"] if not t["content"].startswith("<0x")]
    return json.dumps(found)


def span(start: int, end: int, score: float = 2.0) -> Span:
    return Span(start, end, score, 1.0, 0.5, "hard")


def chat(*answers: str) -> list[dict]:
    turns = [("user", "is it?", "assistant", answer) for answer in answers]
    return [
        {"role": role, "content": content}
        for turn in turns
        for role, content in (turn[:2], turn[2:])
    ]


def encoded(tokenizer, messages, limit=1000, loss_on="all"):
    sample = ChatEncoder(tokenizer).encode(messages, loss_on=loss_on, max_length=limit).samples[0]
    return np.array(sample.input_ids), np.array(sample.labels)


def located(tokenizer, messages, spans, limit=1000, loss_on="all"):
    ids, labels = encoded(tokenizer, messages, limit, loss_on)
    return character_spans(tokenizer, ids, labels, trained_answers(messages, loss_on), spans)


def covered(tokenizer, text: str, ids: list[int], start: int, end: int) -> tuple[int, int]:
    """Characters that the bytes of tokens lie in, of a byte-level tokenizer; no decoding."""
    alphabet = {character: byte for byte, character in bytes_to_unicode().items()}
    sizes = []
    for token in tokenizer.convert_ids_to_tokens(ids):
        special = token in tokenizer.all_special_tokens
        sizes.append(0 if special else len([alphabet[character] for character in token]))
    owner = [place for place, c in enumerate(text) for _ in c.encode()]
    first, stop = sum(sizes[:start]), sum(sizes[:end])
    begin = owner[first] if first < len(owner) else len(text)
    return begin, max(begin, owner[stop - 1] + 1 if stop else 0)


def bytes_to_unicode() -> dict[int, str]:
    """The byte-level alphabet of GPT-2."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return {byte: chr(byte) for byte in plain} | {b: chr(256 + i) for i, b in enumerate(others)}


@settings(max_examples=60)
@given(text=TEXTS, data=st.data())
def test_the_range_is_what_the_tokens_say(tiny_tokenizer, text, data) -> None:
    ids, labels = encoded(tiny_tokenizer, chat(text))
    answer = ids[labels != IGNORE].tolist()
    start = data.draw(st.integers(0, len(answer) - 1))
    end = data.draw(st.integers(start + 1, len(answer)))
    (found,) = located(tiny_tokenizer, chat(text), [span(start, end)])
    assert (found["start"], found["end"]) == covered(tiny_tokenizer, text, answer, start, end)


@settings(max_examples=60)
@given(text=TEXTS, data=st.data())
def test_with_byte_fallback_too(byte_fallback, text, data) -> None:
    """Neighbouring spans share at most a character that lies in both, and miss none."""
    text = text.strip()
    ids = byte_fallback.encode(text, add_special_tokens=False)
    cut = data.draw(st.integers(0, len(ids) - 1))
    ids = np.array([0, *ids, byte_fallback.eos_token_id])
    labels = np.where(np.arange(len(ids)) < 1, IGNORE, ids)
    spans = [span(0, cut)] * (cut > 0) + [span(cut, len(ids) - 2)]
    found = character_spans(byte_fallback, ids, labels, [TrainedAnswer(0, text)], spans)
    assert (found[0]["start"], found[-1]["end"]) == (0, len(text))
    if cut:
        said = byte_fallback.decode(ids[1 : cut + 1].tolist())
        within = "\N{REPLACEMENT CHARACTER}" in said
        assert found[0]["end"] - found[1]["start"] == within
        assert within or text[: found[0]["end"]] == said


@settings(max_examples=30)
@given(texts=st.lists(TEXTS, min_size=1, max_size=3))
def test_template_text_is_left_out(tiny_tokenizer, texts) -> None:
    """An empty think block stands before each answer, and white space around it is dropped."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=tiny_tokenizer.backend_tokenizer,
        eos_token="<|im_end|>",
        chat_template=THINKING,
    )
    messages = chat(*texts)
    _, labels = encoded(tokenizer, messages)
    trained = int((labels != IGNORE).sum())
    found = located(tokenizer, messages, [span(0, trained)])
    assert [place["answer"] for place in found] == list(range(len(texts)))
    for place, text in zip(found, texts, strict=True):
        assert text[place["start"] : place["end"]].strip() == text.strip()
    (begin, *_) = located(tokenizer, messages, [span(0, 2)])
    assert (begin["answer"], begin["start"], begin["end"]) == (0, 0, 0), "in the think block"


def test_the_end_of_the_turn_is_the_end_of_the_answer(tiny_tokenizer) -> None:
    _, labels = encoded(tiny_tokenizer, chat("yes"))
    last = int((labels != IGNORE).sum()) - 1
    (found,) = located(tiny_tokenizer, chat("yes"), [span(last, last + 1)])
    assert (found["start"], found["end"]) == (3, 3)
    (found,) = located(tiny_tokenizer, chat("yes"), [span(0, last + 1)])
    assert (found["start"], found["end"]) == (0, 3)


def test_a_span_keeps_what_is_known_of_it_and_its_place_in_the_list(tiny_tokenizer) -> None:
    found = located(tiny_tokenizer, chat("退款"), [span(4, 6, 9.0), span(0, 1, 3.0)])
    known = {"answer": 0, "mean_loss": 1.0, "mean_entropy": 0.5, "pattern": "hard"}
    assert found == [
        {**known, "start": 1, "end": 2, "score": 9.0},
        {**known, "start": 0, "end": 1, "score": 3.0},
    ]


def test_the_same_answer_twice_is_told_apart(tiny_tokenizer) -> None:
    messages = [{"role": "assistant", "content": "yes"}, *chat("yes", "yes")]
    _, labels = encoded(tiny_tokenizer, messages)
    per_answer = int((labels != IGNORE).sum()) // 2
    spans = [span(0, 1), span(per_answer, per_answer + 1)]
    assert [place["answer"] for place in located(tiny_tokenizer, messages, spans)] == [1, 2]
    (last,) = located(tiny_tokenizer, messages, spans[:1], loss_on="last")
    assert last["answer"] == 2


@pytest.mark.parametrize("cut", range(1, 9))
def test_a_cut_answer_is_placed_at_its_beginning(tiny_tokenizer, cut) -> None:
    text = "退款 yes"
    ids, labels = encoded(tiny_tokenizer, chat(text))
    limit = int(np.flatnonzero(labels != IGNORE)[0]) + cut
    answer = ids[labels != IGNORE].tolist()
    (found,) = located(tiny_tokenizer, chat(text), [span(0, cut)], limit)
    assert (found["start"], found["end"]) == covered(tiny_tokenizer, text, answer, 0, cut)


def test_an_answer_that_only_calls_a_function_has_empty_ranges(tiny_tokenizer) -> None:
    ids = np.array([3, *tiny_tokenizer.encode('{"name": "f"}')])
    labels = np.where(np.arange(len(ids)) < 1, IGNORE, ids)
    (found,) = character_spans(tiny_tokenizer, ids, labels, [TrainedAnswer(0, "")], [span(2, 5)])
    assert (found["start"], found["end"]) == (0, 0)


@settings(max_examples=40)
@given(text=TEXTS, length=st.integers(2, 9), data=st.data())
def test_documents(tiny_tokenizer, text, length, data) -> None:
    """Pieces of a document begin with a token that is not trained; spans reach over it."""
    ids = encode_document(tiny_tokenizer, text)
    labels = np.array(document_labels(ids, piece_lengths(len(ids), length)))
    positions = np.flatnonzero(labels != IGNORE)
    start = data.draw(st.integers(0, len(positions) - 1))
    end = data.draw(st.integers(start + 1, len(positions)))
    (found,) = text_spans(tiny_tokenizer, np.array(ids), labels, text, [span(start, end)])
    first, stop = int(positions[start]), int(positions[end - 1]) + 1
    assert (found["start"], found["end"]) == covered(tiny_tokenizer, text, ids, first, stop)


@settings(max_examples=30)
@given(text=st.text(st.sampled_from("a\ufffd退"), min_size=1, max_size=6), data=st.data())
def test_a_garbled_text_has_ranges_within_it(tiny_tokenizer, text, data) -> None:
    ids, labels = encoded(tiny_tokenizer, chat(text))
    trained = int((labels != IGNORE).sum())
    start = data.draw(st.integers(0, trained - 1))
    (found,) = located(tiny_tokenizer, chat(text), [span(start, trained)])
    exact, _ = covered(tiny_tokenizer, text, ids[labels != IGNORE].tolist(), start, trained)
    assert abs(found["start"] - exact) <= 1
    assert found["end"] == len(text)


def test_no_span(tiny_tokenizer) -> None:
    assert located(tiny_tokenizer, chat("yes"), []) == []
