"""Every published template, every kind of conversation: the rule holds, or the reason is true."""

import re

import pytest

from nlirg.errors import BadRowError
from nlirg.labels import IGNORE
from tests.nlirg.chat.published import MARKERS, published
from tests.nlirg.chat.table import (
    CALL,
    CONVERSATIONS,
    FILE,
    HEAD,
    Trained,
    encoder,
    markdown,
    trained_answers,
)

# It reads another variable than the messages.
UNUSABLE = "template_kimi_audio"
NAMES = [name for name in published() if name != UNUSABLE]
# What these templates cannot express, and why.
REFUSED = {
    ("qwen3_5_nothink", "thinking"): "generation prompt has ended the thinking",
    ("template_minicpmv45", "thinking"): "generation prompt has ended the thinking",
}
# What templates write before an answer besides their markers: tags, speakers, names of channels.
AROUND = re.compile(r"</?think>|analysis|final|thought|assistant|model|to=user|to=self|\s")


def encoded(name: str, kind: str, loss_on: str):
    messages, tools = CONVERSATIONS[kind]
    chat = encoder(name)
    if reason := REFUSED.get((name, kind)):
        with pytest.raises(BadRowError, match=reason):
            chat.encode(messages, tools, loss_on=loss_on)
        pytest.skip(reason)
    answers = [n for n, turn in enumerate(messages) if turn["role"] == "assistant"]
    found = chat.encode(messages, tools, loss_on=loss_on)
    turns = answers if loss_on == "all" else answers[-1:]
    return chat, found, list(trained_answers(chat, found.samples, turns))


def words_of(chat, message) -> list[str]:
    """What of an answer must be in its text, in this order."""
    parts = [message.get("reasoning", ""), message["content"]]
    if "tool_calls" in message:
        parts += [CALL["name"], CALL["arguments"]["part"]]
    return [part for part in parts if part]


@pytest.mark.parametrize("loss_on", ["all", "last"])
@pytest.mark.parametrize("kind", CONVERSATIONS)
@pytest.mark.parametrize("name", NAMES)
def test_an_answer_is_trained_after_what_it_is_generated_from(name, kind, loss_on) -> None:
    messages, tools = CONVERSATIONS[kind]
    chat, found, answers = encoded(name, kind, loss_on)
    for answer in answers:
        text, prompt = chat.prompt(messages[: answer.turn], tools)
        assert answer.sample.input_ids[: answer.start] == prompt
        assert all(tool["function"]["name"] in text for tool in tools)
        check_text(chat, messages[answer.turn], answer)
    for sample in found.samples:
        whole = chat.tokenizer.decode(sample.input_ids)
        assert sample.input_ids == chat.tokenizer.encode(whole, add_special_tokens=False)
        assert all(label in (IGNORE, n) for label, n in zip(*sample[1::-1], strict=True))


def check_text(chat, message, answer: Trained) -> None:
    """The answer's own words, the end of the turn, and nothing else."""
    end = chat.tokenizer.decode([chat.end_of_turn])
    last = MARKERS.findall(answer.text)[-1]
    assert answer.text.endswith(last)
    rest = answer.text
    for words in words_of(chat, message):
        before, found, rest = rest.partition(words)
        assert found, f"{words!r} is missing in {answer.text!r}"
        if "tool_calls" not in message:
            assert not AROUND.sub("", MARKERS.sub("", before))
    if "tool_calls" not in message:
        assert rest.strip() == last == end, "the end of the turn, once"


@pytest.mark.parametrize("name", NAMES)
def test_an_answer_in_one_letter_ends_where_its_turn_does(name) -> None:
    """The letter a stands in "assistant", too."""
    chat = encoder(name)
    turns = [{"role": "user", "content": "Which?"}, {"role": "assistant", "content": "a"}]
    (sample,) = chat.encode(turns).samples
    (answer,) = trained_answers(chat, [sample], [1])
    before, _end, after = answer.text.rpartition(chat.tokenizer.decode([chat.end_of_turn]))
    assert (before.rstrip()[-1], after) == ("a", "")
    assert not AROUND.sub("", MARKERS.sub("", before.rstrip()[:-1]))


@pytest.mark.parametrize("name", NAMES)
def test_what_an_answer_says_does_not_change_what_stands_around_it(name) -> None:
    """Words that templates use themselves, and text beyond ASCII."""
    chat = encoder(name)
    around = set()
    for words in ("final", "user\nassistant", "model", "三号架。", "{{ x }} {% y %} \\n"):
        turns = [{"role": "user", "content": words}, {"role": "assistant", "content": words}]
        (sample,) = chat.encode(turns).samples
        (answer,) = trained_answers(chat, [sample], [1])
        before, found, after = answer.text.rpartition(words)
        assert found
        around.add((before, after))
    assert len(around) == 1


def test_there_are_enough_of_them() -> None:
    assert len(NAMES) >= 40


def test_a_template_that_reads_no_messages_is_refused() -> None:
    with pytest.raises(BadRowError, match="drops a user message"):
        encoder(UNUSABLE).encode(*CONVERSATIONS["no system"])


@pytest.mark.parametrize("name", ["gptoss", "muse_glimmer", "diffusion_gemma"])
def test_an_answer_is_told_from_thinking_in_channels(name) -> None:
    chat = encoder(name)
    asked = {"role": "user", "content": "Where?"}
    for thought in ({}, {"reasoning": "It fell."}):
        turns = [asked, {"role": "assistant", "content": "Here.", **thought}]
        (sample,) = chat.encode(turns).samples
        written = [label for label in sample.labels if label != IGNORE]
        thinking, answer = chat.parts.split(written)
        assert chat.tokenizer.decode(answer, skip_special_tokens=True) == "Here."
        assert ("It fell." in chat.tokenizer.decode(thinking)) == bool(thought)
        assert bool(thinking) == bool(thought)
    begun = written[: len(thinking) // 2]
    assert chat.parts.split(begun) == (begun, []), "thinking that was cut is no answer"


def test_templates_without_channels_have_no_parts() -> None:
    found = [name for name in NAMES if encoder(name).parts is not None]
    assert {"gptoss", "muse_glimmer", "diffusion_gemma"} <= set(found)
    assert {"qwen3", "llama3_1", "deepseek_r1_distill", "phi3", "gemma3"} & set(found) == set()


def test_the_table_is_of_these_templates() -> None:
    assert FILE.read_text(encoding="utf-8") == HEAD + markdown()
