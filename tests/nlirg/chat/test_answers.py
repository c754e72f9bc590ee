"""Kinds of templates, each as small as it can be."""

import datetime

import pytest

from nlirg.chat.encoder import ChatEncoder
from nlirg.errors import BadRowError
from tests.nlirg.chat.published import tokenizer_with
from tests.nlirg.chat.table import CALLED, RESULT, TOOL, trained_answers

SYSTEM = {"role": "system", "content": "be brief"}
FIRST = [{"role": "user", "content": "where?"}, {"role": "assistant", "content": "here"}]
SECOND = [{"role": "user", "content": "sure?"}, {"role": "assistant", "content": "yes"}]
THOUGHT = FIRST[1] | {"reasoning": "it fell"}
PROMPT = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    + PROMPT
)
# Thinking is opened by the prompt, and left out of every turn.
R1 = (
    "{% for m in messages %}{% if m.role == 'user' %}<|user|>{{ m.content }}"
    "{% elif m.role == 'assistant' %}<|assistant|>{{ m.content.split('</think>')[-1].strip() }}"
    "<|end|>{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|><think>\n{% endif %}"
)
# The next speaker's marker ends a turn.
GLM = (
    "{% for m in messages %}<|{{ 'observation' if m.role == 'tool' else m.role }}|>\n"
    "{{ m.content }}"
    "{% for c in m.tool_calls or [] %}{{ c.function.name }}\n{{ c.function.arguments | tojson }}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
    "{# <|user|> <|observation|> <|system|> #}"
)
# A system turn while a question is open, before the last question.
NEMO = (
    "{% for m in messages %}{% if m.role == 'user' %}[INST]"
    "{% if loop.last and messages[0].role == 'system' %}{{ messages[0].content }}\n\n{% endif %}"
    "{{ m.content }}[/INST]{% elif m.role == 'assistant' %}{{ m.content }}</s>{% endif %}"
    "{% endfor %}"
)
ALWAYS = CHATML.replace("{% if add_generation_prompt %}", "{% if true %}")
STRICT = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}<|im_start|>{{ m.role }}\n"
    "{{ m.content }}<|im_end|>\n{% endfor %}" + PROMPT
)


def trained(template: str, turns, tools=(), *, stops=(), loss_on="all", **options) -> list[str]:
    """Texts of the trained answers, each after its own generation prompt."""
    tokenizer = tokenizer_with(template)
    chat = ChatEncoder(tokenizer, options, [tokenizer.convert_tokens_to_ids(t) for t in stops])
    numbers = [
        n for n, t in enumerate(turns) if t["role"] == "assistant" and t.get("trained", True)
    ][0 if loss_on == "all" else -1 :]
    texts = []
    samples = chat.encode(turns, tools, loss_on=loss_on).samples
    for answer in trained_answers(chat, samples, numbers):
        _, prompt = chat.prompt(turns[: answer.turn], tools)
        assert answer.sample.input_ids[: answer.start] == prompt
        texts.append(answer.text)
    return texts


def notes(template: str, turns, tools=()) -> tuple[str, ...]:
    return ChatEncoder(tokenizer_with(template)).encode(turns, tools).notes


def prompt_text(template: str, turns, tools=()) -> str:
    return ChatEncoder(tokenizer_with(template)).prompt(turns, tools)[0]


def test_a_prompt_that_begins_the_thinking_is_gone_on_with() -> None:
    assert trained(R1, [FIRST[0], THOUGHT]) == ["it fell\n</think>\n\nhere<|end|>"]
    written = {"role": "assistant", "content": "<think>\nit fell\n</think>\n\nhere"}
    assert trained(R1, [FIRST[0], written]) == ["it fell\n</think>\n\nhere<|end|>"]


def test_an_answer_without_thinking_ends_what_the_prompt_began() -> None:
    assert trained(R1, [*FIRST, *SECOND]) == [
        "\n</think>\n\nhere<|end|>",
        "\n</think>\n\nyes<|end|>",
    ]


def test_thinking_that_a_template_does_not_know_is_text() -> None:
    assert trained(CHATML, [FIRST[0], THOUGHT]) == ["<think>\nit fell\n</think>\n\nhere<|im_end|>"]
    assert any("does not read reasoning" in note for note in notes(CHATML, [FIRST[0], THOUGHT]))


@pytest.mark.parametrize("key", ["reasoning_content", "thinking", "reasoning"])
def test_thinking_reaches_a_template_under_its_own_name(key) -> None:
    template = CHATML.replace(
        "{{ m.content }}", f"{{% if m.{key} %}}[{{{{ m.{key} }}}}]{{% endif %}}{{{{ m.content }}}}"
    )
    assert trained(template, [FIRST[0], THOUGHT]) == ["[it fell]here<|im_end|>"]
    assert notes(template, [FIRST[0], THOUGHT]) == ()


def test_the_marker_of_the_next_speaker_ends_a_turn_where_the_model_stops_at_it() -> None:
    stops = ("<|user|>", "<|observation|>")
    turns = [FIRST[0], CALLED, RESULT, FIRST[1], *SECOND]
    texts = ['shelf_of\n{"part": "lid"}<|observation|>', "here<|user|>", "yes<|user|>"]
    assert trained(GLM, turns, [TOOL], stops=stops) == texts
    assert trained(GLM, FIRST) == ["here</s>"], "no end is known but the end of sequence"


def test_a_system_turn_may_be_printed_while_a_question_is_open_alone() -> None:
    turns = [SYSTEM, *FIRST, *SECOND]
    assert trained(NEMO, turns) == ["here</s>", "yes</s>"]
    assert trained(NEMO, turns, loss_on="last") == ["yes</s>"]
    assert prompt_text(NEMO, turns[:-1]).endswith("[INST]be brief\n\nsure?[/INST]")


def test_a_generation_prompt_that_always_stands_there_is_not_trained() -> None:
    answer = {"role": "assistant", "content": "a"}
    assert trained(ALWAYS, [FIRST[0], answer]) == ["a<|im_end|>"]
    assert trained(ALWAYS, [*FIRST, *SECOND]) == ["here<|im_end|>", "yes<|im_end|>"]


def test_a_template_that_leaves_the_last_turn_open_ends_it_as_it_ends_others() -> None:
    template = CHATML.replace(
        "<|im_end|>\n{% endfor %}",
        "{% if not loop.last or add_generation_prompt %}<|im_end|>\n{% endif %}{% endfor %}",
    )
    assert trained(template, [*FIRST, *SECOND]) == ["here<|im_end|>", "yes<|im_end|>"]


def test_a_system_turn_that_a_template_refuses_is_put_before_the_question() -> None:
    turns = [SYSTEM, *FIRST]
    assert trained(STRICT, turns) == ["here<|im_end|>"]
    assert "be brief\n\nwhere?" in prompt_text(STRICT, turns[:-1])
    assert notes(STRICT, turns) == (
        "the chat template has no system turn: it is put before the first question",
    )


def test_calls_tools_and_results_are_text_where_a_template_has_none() -> None:
    turns = [SYSTEM, FIRST[0], CALLED, RESULT, FIRST[1]]
    call = '{"name": "shelf_of", "arguments": {"part": "lid"}}'
    assert trained(STRICT, turns, [TOOL]) == [f"{call}<|im_end|>", "here<|im_end|>"]
    text = prompt_text(STRICT, turns[:-1], [TOOL])
    assert "be brief\n\nTools:\n" in text
    assert text.count('"shelf_of"') == 2, "as a tool, and as a call"
    assert '<|im_start|>user\nTool result:\n{"shelf": 7}<|im_end|>' in text
    assert len(notes(STRICT, turns, [TOOL])) == 4


def test_several_results_and_a_question_after_them_are_one_turn() -> None:
    turns = [FIRST[0], CALLED, RESULT, RESULT, {"role": "user", "content": "well?"}, FIRST[1]]
    text = prompt_text(STRICT, turns[:-1], [TOOL])
    assert 'Tool result:\n{"shelf": 7}\n\nTool result:\n{"shelf": 7}\n\nwell?<|im_end|>' in text


def test_a_template_that_mentions_tools_need_not_print_them() -> None:
    template = CHATML.replace(
        "{{ m.content }}", "{{ m.content }}{{ m['tools'] if 'tools' in m else '' }}"
    )
    assert "tools" in template
    text = prompt_text(template, [FIRST[0]], [TOOL])
    assert '<|im_start|>system\nTools:\n{"name": "shelf_of"' in text


def test_text_beside_a_call_is_kept_where_a_template_prints_the_call_alone() -> None:
    template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.tool_calls %}"
        "{% for c in m.tool_calls %}<tool_call>{{ c.function | tojson }}</tool_call>{% endfor %}"
        "{% else %}{{ m.content }}{% endif %}<|im_end|>\n{% endfor %}" + PROMPT
    )
    turns = [FIRST[0], CALLED | {"content": "I look."}, RESULT, FIRST[1]]
    first, second = trained(template, turns)
    assert first.startswith("I look.<tool_call>")
    assert second == "here<|im_end|>"
    assert any("prints no text beside a call" in note for note in notes(template, turns))


def test_untrained_answers_are_context() -> None:
    wrong = FIRST[1] | {"content": "there", "trained": False}
    assert trained(CHATML, [FIRST[0], wrong, *SECOND]) == ["yes<|im_end|>"]
    assert "there" in prompt_text(CHATML, [FIRST[0], wrong, SECOND[0]])
    with pytest.raises(BadRowError, match="no answer is to be trained"):
        trained(CHATML, [FIRST[0], wrong])


def test_an_answer_needs_somebody_who_asks() -> None:
    opening = {"role": "assistant", "content": "welcome"}
    texts = ChatEncoder(tokenizer_with(CHATML)).encode([SYSTEM, opening, *FIRST])
    (sample,) = texts.samples
    (answer,) = trained_answers(ChatEncoder(tokenizer_with(CHATML)), [sample], [3])
    assert answer.text == "here<|im_end|>"


def test_every_template_sees_the_day_it_is_told() -> None:
    template = "{{ strftime_now('%d %b %Y %H:%M') }}" + CHATML
    day = datetime.date(2026, 2, 28)
    chat = ChatEncoder(tokenizer_with(template), today=day)
    assert chat.prompt(FIRST[:1])[0].startswith("28 Feb 2026 00:00")
    (sample,) = chat.encode(FIRST).samples
    assert chat.tokenizer.decode(sample.input_ids).startswith("28 Feb 2026 00:00")


def test_a_template_of_a_model_that_sees_gets_its_text_in_parts() -> None:
    template = CHATML.replace(
        "{{ m.content }}", "{% for part in m.content %}{{ part.text }}{% endfor %}"
    )
    assert trained(template, [SYSTEM, *FIRST]) == ["here<|im_end|>"]


def test_content_that_looks_like_the_templates_words_is_found() -> None:
    for words in ("assistant", "<think>", "zqmarkqz", "user\n"):
        turns = [{"role": "user", "content": words}, {"role": "assistant", "content": words}]
        assert trained(CHATML, turns) == [f"{words}<|im_end|>"]
