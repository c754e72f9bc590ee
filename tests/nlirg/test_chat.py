import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nlirg.chat import encode_chat, encode_prompt
from nlirg.errors import BadRowError
from nlirg.windows import IGNORE

TURNS = [
    {"role": "system", "content": "be brief"},
    {"role": "user", "content": "one question"},
    {"role": "assistant", "content": "yes"},
    {"role": "user", "content": "two questions?"},
    {"role": "assistant", "content": "no, 三"},
]
# No special tokens; the pieces merge across a prompt's end if they are tokenized with it.
texts = st.text(alphabet="\n us<|>er问 ", min_size=1, max_size=12).filter(str.strip)


def encode(tokenizer, messages, max_length=512, overlong="truncate", **options):
    return encode_chat(tokenizer, messages, max_length, overlong, options)


def trained_text(tokenizer, sample) -> str:
    return tokenizer.decode([label for label in sample.labels if label != IGNORE])


@pytest.fixture
def with_template(tiny_tokenizer):
    def make(template: str):
        tokenizer = copy.deepcopy(tiny_tokenizer)
        tokenizer.chat_template = template
        return tokenizer

    return make


def test_every_answer_is_trained_with_its_end_of_turn_and_nothing_else(tiny_tokenizer) -> None:
    sample = encode(tiny_tokenizer, TURNS)
    assert trained_text(tiny_tokenizer, sample) == "yes<|im_end|>no, 三<|im_end|>"
    assert sample.labels[-1] == tiny_tokenizer.eos_token_id
    assert not sample.truncated


def test_tokens_spell_what_the_template_renders(tiny_tokenizer) -> None:
    rendered = tiny_tokenizer.apply_chat_template(TURNS, tokenize=False)
    decoded = tiny_tokenizer.decode(encode(tiny_tokenizer, TURNS).input_ids)
    assert decoded + "\n" == rendered


@given(contents=st.lists(texts, min_size=2, max_size=6))
@settings(max_examples=50)
def test_generation_sees_exactly_the_training_prefix(tiny_tokenizer, contents) -> None:
    contents = contents[: len(contents) // 2 * 2]
    messages = [
        {"role": ["user", "assistant"][turn % 2], "content": content}
        for turn, content in enumerate(contents)
    ]
    sample = encode(tiny_tokenizer, messages)
    text, prompt = encode_prompt(tiny_tokenizer, messages[:-1], {})
    assert tiny_tokenizer.decode(prompt) == text
    assert sample.input_ids[: len(prompt)] == prompt
    last = sample.labels[len(prompt) :]
    assert last == sample.input_ids[len(prompt) :]
    assert tiny_tokenizer.decode(last) == contents[-1] + "<|im_end|>"
    for label, token in zip(sample.labels, sample.input_ids, strict=True):
        assert label in (IGNORE, token)


def test_template_options_reach_the_template(with_template) -> None:
    tokenizer = with_template(
        "{{ tone }}{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}"
    )
    text, _ = encode_prompt(tokenizer, TURNS[1:2], {"tone": "[polite]"})
    assert text == "[polite]one question<|im_end|>"


def test_an_answer_is_trained_to_the_templates_own_terminator(with_template) -> None:
    tokenizer = with_template(
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|endoftext|> "
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% else %}<|im_end|>"
        "{% endif %}"
    )
    sample = encode(tokenizer, TURNS[1:])
    assert trained_text(tokenizer, sample) == "yes<|endoftext|>no, 三<|endoftext|>"


def test_a_sample_of_just_the_limit_is_whole(tiny_tokenizer) -> None:
    whole = encode(tiny_tokenizer, TURNS)
    n = len(whole.input_ids)
    assert encode(tiny_tokenizer, TURNS, max_length=n, overlong="skip") == whole


def test_an_overlong_sample_loses_its_tail_or_is_refused(tiny_tokenizer) -> None:
    whole = encode(tiny_tokenizer, TURNS)
    n = len(whole.input_ids) - 1
    cut = encode(tiny_tokenizer, TURNS, max_length=n)
    assert cut == (whole.input_ids[:n], whole.labels[:n], True)
    with pytest.raises(BadRowError, match=f"{n + 1} tokens and the limit is {n}"):
        encode(tiny_tokenizer, TURNS, max_length=n, overlong="skip")


@pytest.mark.parametrize("overlong", ["truncate", "skip"])
def test_a_prompt_that_leaves_no_room_is_refused(tiny_tokenizer, overlong) -> None:
    messages = TURNS[1:3]
    _, prompt = encode_prompt(tiny_tokenizer, messages[:1], {})
    n = len(prompt)
    with pytest.raises(BadRowError, match=f"prompt has {n} tokens and the limit is {n}"):
        encode(tiny_tokenizer, messages, max_length=n, overlong=overlong)
    assert encode(tiny_tokenizer, messages, max_length=n + 1).labels[-1] != IGNORE


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([], "do not end on the assistant"),
        (TURNS[:2], "do not end on the assistant"),
        ([TURNS[1], {"role": "assistant", "content": " \n"}], "answer is empty"),
        ([TURNS[1], {"role": "assistant", "content": "a<|im_end|>b"}], "special token"),
        ([{"role": "user", "content": "<|im_start|>"}, TURNS[2]], "special token"),
    ],
)
def test_conversations_that_cannot_be_trained(tiny_tokenizer, messages, reason) -> None:
    with pytest.raises(BadRowError, match=reason):
        encode(tiny_tokenizer, messages)


def test_nothing_to_answer(tiny_tokenizer) -> None:
    for messages in ([], TURNS):
        with pytest.raises(BadRowError, match="nothing is left to answer"):
            encode_prompt(tiny_tokenizer, messages, {})


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ messages | length }}{{ messages[-1].content }}<|im_end|>", "not prefix-stable"),
        ("{% for m in messages %}{{ m.content }}\n{% endfor %}", "no end-of-turn"),
        (
            "{% for m in messages %}{{ m.content | upper }}<|im_end|>{% endfor %}",
            "rewrites the answer",
        ),
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
    ],
)
def test_templates_that_cannot_be_used(with_template, template, reason) -> None:
    with pytest.raises(BadRowError, match=reason):
        encode(with_template(template), TURNS)
