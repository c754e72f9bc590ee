import copy
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nlirg.chat.encoder import ChatEncoder, OverlongError
from nlirg.errors import BadRowError
from nlirg.labels import IGNORE

TURNS = [
    {"role": "system", "content": "be brief"},
    {"role": "user", "content": "one question"},
    {"role": "assistant", "content": "yes"},
    {"role": "user", "content": "two questions?"},
    {"role": "assistant", "content": "no, 三"},
]
# No special tokens; the pieces merge across a prompt's end if they are tokenized with it.
texts = st.text(alphabet="\n us<|>er问 ", min_size=1, max_size=12).filter(str.strip)


# As Qwen3's: thinking is dropped once another question follows, the last turn always gets some,
# and calls of functions and their results have forms of their own.
THINKING = """
{%- if tools %}<|im_start|>system
{{ messages[0].content if messages[0].role == "system" }}{% for tool in tools %}
{{ tool | tojson }}{% endfor %}<|im_end|>
{% elif messages[0].role == "system" %}<|im_start|>system
{{ messages[0].content }}<|im_end|>
{% endif %}
{%- set ns = namespace(query=0) %}
{%- for m in messages %}{% if m.role == "user" %}{% set ns.query = loop.index0 %}{% endif %}
{%- endfor %}
{%- for m in messages %}
{%- set parts = m.content.split("</think>") %}
{%- if m.role == "user" %}<|im_start|>user
{{ m.content }}<|im_end|>
{% elif m.role == "tool" %}<|im_start|>user
<tool_response>
{{ m.content }}
</tool_response><|im_end|>
{% elif m.role == "assistant" %}<|im_start|>assistant
{% if loop.index0 > ns.query and (loop.last or parts | length > 1) %}<think>
{{ (parts[0] if parts | length > 1 else "").replace("<think>", "").strip() }}
</think>

{% endif %}{{ parts[-1].strip() }}
{%- for call in m.tool_calls or [] %}
<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>{% endfor %}<|im_end|>
{% endif %}{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% if enable_thinking is defined and not enable_thinking %}<think>

</think>

{% endif %}{% endif %}"""
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
CALLED = [
    {"role": "user", "content": "rain?"},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {
                "id": "call00000",
                "type": "function",
                "function": {"name": "weather", "arguments": {"city": "三"}},
            }
        ],
    },
    {"role": "tool", "content": '{"rain": "yes"}', "tool_call_id": "call00000"},
    {"role": "assistant", "content": "yes"},
]
CALL = '{"name": "weather", "arguments": {"city": "三"}}'


def encode(tokenizer, messages, tools=(), loss_on="all", max_length=512, overlong="truncate", **o):
    """The one sample of a conversation."""
    chat = ChatEncoder(tokenizer, o).encode(
        messages, tools, loss_on=loss_on, max_length=max_length, overlong=overlong
    )
    (sample,) = chat.samples
    return sample


def encode_last(tokenizer, messages, **given):
    return encode(tokenizer, messages, loss_on="last", **given)


def samples(tokenizer, messages, **options):
    return ChatEncoder(tokenizer, options).encode(messages).samples


def encode_prompt(tokenizer, messages, options):
    return ChatEncoder(tokenizer, options).prompt(messages)


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


def test_tokens_spell_what_the_template_renders(tiny_tokenizer) -> None:
    rendered = tiny_tokenizer.apply_chat_template(TURNS, tokenize=False)
    decoded = tiny_tokenizer.decode(encode(tiny_tokenizer, TURNS).input_ids)
    assert decoded + "\n" == rendered


def test_the_last_answer_alone_can_be_trained(tiny_tokenizer) -> None:
    every, last = encode(tiny_tokenizer, TURNS), encode_last(tiny_tokenizer, TURNS)
    assert last.input_ids == every.input_ids
    assert trained_text(tiny_tokenizer, last) == "no, 三<|im_end|>"


def test_an_opening_turn_of_the_assistant_is_context(tiny_tokenizer) -> None:
    sample = encode(tiny_tokenizer, [{"role": "assistant", "content": "hello!"}, *TURNS[1:]])
    assert "hello!" in tiny_tokenizer.decode(sample.input_ids)
    assert trained_text(tiny_tokenizer, sample) == "yes<|im_end|>no, 三<|im_end|>"


@pytest.mark.parametrize("loss_on", ["all", "last"])
@given(contents=st.lists(texts, min_size=2, max_size=6))
@settings(max_examples=50)
def test_generation_sees_exactly_the_training_prefix(tiny_tokenizer, loss_on, contents) -> None:
    contents = contents[: len(contents) // 2 * 2]
    messages = [
        {"role": ["user", "assistant"][turn % 2], "content": content}
        for turn, content in enumerate(contents)
    ]
    sample = encode(tiny_tokenizer, messages, loss_on=loss_on)
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
    with pytest.raises(OverlongError, match=f"{n + 1} tokens and the limit is {n}"):
        encode(tiny_tokenizer, TURNS, max_length=n, overlong="skip")


def test_a_sample_cut_in_a_later_prompt_ends_on_its_last_trained_token(tiny_tokenizer) -> None:
    first = encode(tiny_tokenizer, TURNS[:3])
    cut = encode(tiny_tokenizer, TURNS, max_length=len(first.input_ids) + 3)
    assert cut == first


@pytest.mark.parametrize("overlong", ["truncate", "skip"])
def test_a_prompt_that_leaves_no_room_is_refused(tiny_tokenizer, overlong) -> None:
    messages = TURNS[1:3]
    _, prompt = encode_prompt(tiny_tokenizer, messages[:1], {})
    n = len(prompt)
    with pytest.raises(OverlongError, match=f"prompt has {n} tokens and the limit is {n}"):
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
        (
            "{% for m in messages %}{{ m.content | upper if m.role == 'assistant' else m.content }}"
            "<|im_end|>{% endfor %}",
            "rewrites the answer",
        ),
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{{ messages[-1].content }}<|im_end|>", "drops a user message"),
        ("{{ missing.key.deeper }}", "cannot be rendered: .missing. is undefined"),
        ("{{ 1 // 0 }}", "refuses the messages"),
        ("{{ messages[0].name.first }}", "refuses the messages: 'dict object' has no"),
    ],
)
def test_templates_that_cannot_be_used(with_template, template, reason) -> None:
    with pytest.raises(BadRowError, match=reason):
        encode(with_template(template), TURNS[1:])


def test_an_answer_without_an_end_of_its_own_gets_the_end_of_sequence(with_template) -> None:
    tokenizer = with_template("{% for m in messages %}{{ m.content }}\n{% endfor %}")
    first, second = samples(tokenizer, TURNS[1:])
    assert trained_text(tokenizer, first) == "yes<|im_end|>"
    assert trained_text(tokenizer, second) == "no, 三<|im_end|>"
    assert tokenizer.decode(second.input_ids).startswith("one question\nyes\ntwo questions?\n")


def test_tokens_are_those_of_a_thinking_templates_last_turn(with_template) -> None:
    tokenizer = with_template(THINKING)
    sample = encode_last(tokenizer, TURNS)
    rendered = tokenizer.apply_chat_template(TURNS, tokenize=False)
    assert tokenizer.decode(sample.input_ids) + "\n" == rendered
    assert trained_text(tokenizer, sample) == "<think>\n\n</think>\n\nno, 三<|im_end|>"
    text, prompt = encode_prompt(tokenizer, TURNS[:-1], {})
    assert text.endswith("two questions?<|im_end|>\n<|im_start|>assistant\n")
    assert sample.input_ids[: len(prompt)] == prompt


def test_thinking_is_trained_where_the_template_keeps_it(with_template) -> None:
    tokenizer = with_template(THINKING)
    thought = [*TURNS[:-1], {"role": "assistant", "content": "<think>two?</think>no"}]
    last = encode_last(tokenizer, thought)
    assert trained_text(tokenizer, last) == "<think>\ntwo?\n</think>\n\nno<|im_end|>"


def test_a_template_option_moves_the_empty_thinking_into_the_prompt(with_template) -> None:
    tokenizer = with_template(THINKING)
    sample = encode_last(tokenizer, TURNS, enable_thinking=False)
    assert trained_text(tokenizer, sample) == "no, 三<|im_end|>"
    _, prompt = encode_prompt(tokenizer, TURNS[:-1], {"enable_thinking": False})
    assert sample.input_ids[: len(prompt)] == prompt


def test_a_template_that_drops_earlier_thinking_gives_every_answer_its_own_prefix(
    with_template,
) -> None:
    tokenizer = with_template(THINKING)
    found = samples(tokenizer, TURNS)
    assert [trained_text(tokenizer, sample) for sample in found] == [
        "<think>\n\n</think>\n\nyes<|im_end|>",
        "<think>\n\n</think>\n\nno, 三<|im_end|>",
    ]
    for sample, context in zip(found, (TURNS[:2], TURNS[:4]), strict=True):
        _, prompt = encode_prompt(tokenizer, context, {})
        assert sample.input_ids[: len(prompt)] == prompt
        assert all(label == IGNORE for label in sample.labels[: len(prompt)])


def test_reasoning_after_a_prompt_that_ends_thinking_is_refused_with_the_way_out(
    with_template,
) -> None:
    tokenizer = with_template(THINKING)
    thought = [TURNS[1], {"role": "assistant", "content": "<think>two?</think>no"}]
    with pytest.raises(BadRowError, match=r"ended the thinking: set .*enable_thinking: true"):
        encode(tokenizer, thought, enable_thinking=False)
    assert encode(tokenizer, thought).labels[-1] != IGNORE


def test_a_call_is_trained_as_the_template_writes_it_and_its_result_is_not(with_template) -> None:
    tokenizer = with_template(THINKING)
    sample = encode(tokenizer, CALLED[:2], tools=TOOLS)
    call = f"<think>\n\n</think>\n\n<tool_call>\n{CALL}\n</tool_call><|im_end|>"
    assert trained_text(tokenizer, sample) == call
    assert json.dumps(TOOLS[0]) in tokenizer.decode(sample.input_ids)
    whole = encode_last(tokenizer, CALLED, tools=TOOLS)
    assert trained_text(tokenizer, whole) == "<think>\n\n</think>\n\nyes<|im_end|>"
    assert CALLED[2]["content"] in tokenizer.decode(whole.input_ids)


def test_a_template_without_calls_and_tools_gets_them_as_text(tiny_tokenizer) -> None:
    sample = encode(tiny_tokenizer, [TURNS[0], *CALLED], tools=TOOLS)
    assert trained_text(tiny_tokenizer, sample) == f"{CALL}<|im_end|>yes<|im_end|>"
    text = tiny_tokenizer.decode(sample.input_ids)
    listed = json.dumps(TOOLS[0]["function"])
    assert text.startswith(f"<|im_start|>system\nbe brief\n\nTools:\n{listed}<|im_end|>\n")
    assert f"<|im_start|>tool\n{CALLED[2]['content']}<|im_end|>" in text


def test_a_template_that_joins_arguments_to_text_gets_them_as_text(with_template) -> None:
    tokenizer = with_template(
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
        "{% for c in m.tool_calls or [] %}{{ c.function.name + c.function.arguments }}{% endfor %}"
        "<|im_end|>{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    sample = encode(tokenizer, CALLED)
    assert trained_text(tokenizer, sample) == 'weather{"city": "三"}<|im_end|>yes<|im_end|>'


def test_a_call_ends_where_the_turn_does_whatever_tokens_stand_in_it(with_template) -> None:
    tokenizer = with_template(
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
        "{% for c in m.tool_calls or [] %}{{ c.function.name }}<|endoftext|>"
        "{{ c.function.arguments | tojson }}{% endfor %}<|im_end|>{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% else %}<|endoftext|>{% endif %}"
    )
    sample = encode(tokenizer, CALLED)
    called = 'weather<|endoftext|>{"city": "三"}<|im_end|>'
    assert trained_text(tokenizer, sample) == called + "yes<|im_end|>"


@pytest.mark.parametrize(
    ("messages", "tools", "reason"),
    [
        ([CALLED[0], CALLED[1] | {"content": "<|im_end|>"}], [], "assistant message contains"),
        (CALLED[:1] + TURNS[2:3], [{"function": {"name": "<|im_end|>"}}], "tools contains"),
        (
            [
                CALLED[0],
                {
                    "role": "assistant",
                    "content": "",
                    "tool_calls": [{"function": {"name": "<|im_end|>", "arguments": {}}}],
                },
            ],
            [],
            "function call contains",
        ),
    ],
)
def test_calls_and_tools_may_not_spell_special_tokens(
    tiny_tokenizer, messages, tools, reason
) -> None:
    with pytest.raises(BadRowError, match=reason):
        encode(tiny_tokenizer, messages, tools=tools)
