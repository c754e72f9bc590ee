"""Kinds of templates, each as small as it can be."""

import copy
import datetime

import pytest

from nlirg.chat.encoder import ChatEncoder
from nlirg.config.corpus import EncodeConfig
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
        if turns[answer.turn - 1]["role"] != "assistant":
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


def call(name: str, part: str, **more):
    function = {"name": name, "arguments": {"part": part}}
    one = {"id": "call00000", "type": "function", "function": function}
    return {"role": "assistant", "content": "", "tool_calls": [one], **more}


CALLING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.reasoning %}<think>\n{{ m.reasoning }}\n</think>\n\n{% endif %}{{ m.content }}"
    "{% for c in m.tool_calls or [] %}<tool_call>{{ c.function | tojson }}</tool_call>{% endfor %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if not thinks %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)


@pytest.mark.parametrize("answer", [THOUGHT, call("shelf_of", "lid", reasoning="it fell")])
def test_reasoning_cannot_follow_a_prompt_that_has_ended_it(answer) -> None:
    with pytest.raises(BadRowError, match=r"ended the thinking: leave out the reasoning"):
        trained(CALLING, [FIRST[0], answer])
    template = CALLING.replace("thinks", "enable_thinking")
    with pytest.raises(BadRowError, match=r"template_options: \{enable_thinking: true\}, or leave"):
        trained(template, [FIRST[0], answer])
    (text,) = trained(template, [FIRST[0], answer], enable_thinking=True)
    assert text.startswith("<think>\nit fell\n</think>\n\n")


def test_a_call_after_a_prompt_that_has_ended_the_thinking_has_none() -> None:
    (text,) = trained(CALLING, [FIRST[0], call("shelf_of", "lid")])
    assert "think" not in text
    assert text.endswith("</tool_call><|im_end|>")


def test_a_template_that_prints_one_call_of_many_is_refused() -> None:
    template = CALLING.replace("in m.tool_calls or []", "in (m.tool_calls or [])[:1]")
    both = call("shelf_of", "lid")
    both["tool_calls"] = both["tool_calls"] + call("shelf_of", "hose")["tool_calls"]
    for turns in ([FIRST[0], both], [FIRST[0], both | {"trained": False}, RESULT, *FIRST[1:]]):
        with pytest.raises(BadRowError, match="one call a turn, and one has 2"):
            trained(template, turns, thinks=True)
    (text,) = trained(CALLING, [FIRST[0], both], thinks=True)
    assert "lid" in text
    assert "hose" in text


def test_calls_after_results_are_found_however_the_result_is_followed() -> None:
    """As Hermes': what ends a result depends on whether it is the last turn."""
    template = (
        "{% for m in messages %}{% if m.role == 'tool' %}<|im_start|>tool\n{{ m.content }}"
        "{{ '' if loop.last else '\n' }}<|im_end|>\n{% else %}<|im_start|>{{ m.role }}\n"
        "{{ m.content }}{% for c in m.tool_calls or [] %}<tool_call>{{ c.function | tojson }}"
        "</tool_call>{% endfor %}<|im_end|>\n{% endif %}{% endfor %}" + PROMPT
    )
    turns = [FIRST[0], call("shelf_of", "lid"), RESULT, call("room_of", "hose"), RESULT, FIRST[1]]
    first, second, last = trained(template, turns)
    assert first.startswith('<tool_call>{"name": "shelf_of"')
    assert second.startswith('<tool_call>{"name": "room_of"')
    assert last == "here<|im_end|>"


def test_an_answer_ends_where_the_model_stops_if_that_stands_right_after_its_end() -> None:
    """As Cohere's: the end of the answer, then that of the turn."""
    template = CHATML.replace("{{ m.content }}", "{{ m.content }}<|END|>")
    assert trained(template, FIRST) == ["here<|END|>"]
    assert trained(template, FIRST, stops=["<|im_end|>"]) == ["here<|END|><|im_end|>"]


def test_what_ends_the_text_alone_is_no_end_of_a_turn() -> None:
    """As Phi-3's."""
    template = CHATML + "{% if not add_generation_prompt %}</s>{% endif %}"
    assert trained(template, FIRST) == ["here<|im_end|>"]


def test_an_answer_after_an_answer_needs_a_turn_of_its_own() -> None:
    turns = [*FIRST, SECOND[1]]
    assert trained(CHATML, turns) == ["here<|im_end|>", "yes<|im_end|>"]
    with pytest.raises(BadRowError, match="begins no turn after one"):
        trained(NEMO, turns)


def test_a_template_that_counts_tools_that_are_not_there() -> None:
    assert trained("{{ tools | length }}" + CHATML, FIRST) == ["here<|im_end|>"]
    assert trained("{% for t in tools %}{% endfor %}" + CHATML, FIRST) == ["here<|im_end|>"]


def test_thinking_whose_tag_stood_in_the_prompt() -> None:
    dumped = {"role": "assistant", "content": "it fell\n</think>\n\nhere"}
    assert trained(R1, [FIRST[0], dumped]) == ["it fell\n</think>\n\nhere<|end|>"]
    spoken = {"role": "assistant", "content": "write </think> to end it"}
    assert trained(CHATML, [FIRST[0], spoken]) == ["write </think> to end it<|im_end|>"]
    endless = {"role": "assistant", "content": "<think>\nit fell"}
    with pytest.raises(BadRowError, match="thinking does not end"):
        trained(R1, [FIRST[0], endless])


def test_a_prompt_without_the_system_turn_is_told() -> None:
    template = (
        "{% for m in messages %}{% if m.role == 'user' %}[INST]"
        "{% if loop.last and messages[0].role == 'system' %}{{ messages[0].content }}{% endif %}"
        "{{ m.content }}[/INST]{% elif m.role == 'tool' %}[RESULT]{{ m.content }}[/RESULT]"
        "{% elif m.role == 'assistant' %}{{ m.content }}{% for c in m.tool_calls or [] %}"
        "{{ c.function | tojson }}{% endfor %}</s>{% endif %}{% endfor %}"
    )
    turns = [SYSTEM, FIRST[0], call("shelf_of", "lid"), RESULT, FIRST[1]]
    assert any("leaves out the system turn" in note for note in notes(template, turns))
    assert notes(template, [SYSTEM, *FIRST]) == ()


@pytest.mark.parametrize("name", ["messages", "tools", "chat_template", "add_generation_prompt"])
def test_what_rendering_sets_is_no_option(name) -> None:
    with pytest.raises(ValueError, match=f"{name} is set by rendering itself"):
        EncodeConfig(template_options={name: 1})


def test_markers_that_are_no_tokens_are_found(tiny_tokenizer) -> None:
    template = CHATML.replace("<|im_end|>", "<|eot|>")
    tokenizer = copy.deepcopy(tiny_tokenizer)
    assert ChatEncoder(tokenizer).template.foreign_markers == []
    tokenizer.chat_template = template
    assert ChatEncoder(tokenizer).template.foreign_markers == ["<|eot|>"]
