"""Options as token ids: those that training would have after the same prompt."""

import copy

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from eval.cases.probe import load_probe
from eval.config import EvaluateConfig
from eval.generation.generate import Prompt, refusal, render
from eval.generation.options import encode_options
from eval.schema.case import Case, Checker, Message
from nlirg.chat.encoder import ChatEncoder
from nlirg.errors import BadRowError
from tests.conftest import CHATML

THINKING = CHATML.replace(
    "{{ message['content'] }}",
    "{{ '<think>\n\n</think>\n\n' if message['role'] == 'assistant' else '' }}"
    "{{ message['content'] }}",
)


def question(*values: str, text: str = "one two") -> Case:
    return Case(
        id="q",
        messages=(Message(role="user", content=text),),
        reference=values[0],
        checker=Checker(kind="choice", values=values, answer_by="likelihood"),
        suite="ood",
    )


def rendered(tokenizer, *values: str, **more) -> Prompt:
    (prompt,) = render(ChatEncoder(tokenizer), [question(*values, **more)])
    return prompt


def with_template(tokenizer, template: str):
    changed = copy.deepcopy(tokenizer)
    changed.chat_template = template
    return changed


def trained(tokenizer, prompt: Prompt, text: str) -> list[int]:
    """Ids of a conversation in training, without the end of its last turn."""
    turns = [message.model_dump() for message in prompt.case.messages]
    turns.append({"role": "assistant", "content": text})
    return ChatEncoder(tokenizer).encode(turns, loss_on="last").samples[-1].input_ids[:-1]


@pytest.mark.parametrize("template", [CHATML, THINKING])
def test_an_option_has_the_ids_that_training_gives_an_answer(tiny_tokenizer, template) -> None:
    tokenizer = with_template(tiny_tokenizer, template)
    cases = [case for case in load_probe() if case.checker.answer_by == "likelihood"]
    for prompt in render(ChatEncoder(tokenizer), cases):
        assert prompt.error == ""
        for text, ids in zip(prompt.options.texts, prompt.options.ids, strict=True):
            assert [*prompt.ids, *prompt.options.lead, *ids] == trained(tokenizer, prompt, text)


def test_what_the_template_writes_before_an_answer_is_context(tiny_tokenizer) -> None:
    plain = rendered(tiny_tokenizer, "yes", "no").options
    thinking = rendered(with_template(tiny_tokenizer, THINKING), "yes", "no").options
    assert plain.lead == ()
    assert tiny_tokenizer.decode(thinking.lead) == "<think>\n\n</think>\n\n"
    assert thinking.ids == plain.ids


def test_a_prompt_keeps_its_ids_where_its_end_would_merge_with_an_option(tiny_tokenizer) -> None:
    """The prompt ends on `t`, and `the` is one token: asked together, they would be others."""
    tokenizer = with_template(tiny_tokenizer, CHATML.replace("<|im_start|>assistant\n", " t"))
    tokenizer.chat_template = tokenizer.chat_template.replace(
        "<|im_start|>{{ message['role'] }}\n",
        "{{ ' t' if message['role'] == 'assistant' else '<|im_start|>' + message['role'] + '\n' }}",
    )
    prompt = rendered(tokenizer, "he answer", "wo")
    together = tokenizer.encode(prompt.text + "he answer", add_special_tokens=False)
    assert tuple(together[: len(prompt.ids)]) != prompt.ids
    assert tokenizer.decode(prompt.options.ids[0]) == "he answer"
    assert [*prompt.ids, *prompt.options.ids[0]] == trained(tokenizer, prompt, "he answer")


def test_a_space_that_joins_the_option_is_scored_with_it(tiny_tokenizer) -> None:
    """Llama-2's templates write one before an answer, which is a part of its first token."""
    spaced = CHATML.replace(
        "{{ message['content'] }}",
        "{{ ' ' if message['role'] == 'assistant' else '' }}{{ message['content'] }}",
    )
    options = rendered(with_template(tiny_tokenizer, spaced), "no", "yes").options
    assert options.lead == ()
    assert [tiny_tokenizer.decode(ids) for ids in options.ids] == [" no", " yes"]
    assert len(options.ids[0]) == 1


def lowercasing() -> PreTrainedTokenizerFast:
    vocabulary = {name: i for i, name in enumerate(["[UNK]", "<|im_end|>", "us", "them"])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.decoder = decoders.WordPiece()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", eos_token="<|im_end|>", chat_template=CHATML
    )


def test_options_that_the_model_cannot_tell_apart_or_read_are_refused(tiny_tokenizer) -> None:
    def encode(tokenizer, *texts):
        messages = [{"role": "user", "content": "x"}]
        return encode_options(ChatEncoder(tokenizer), messages, texts)

    with pytest.raises(BadRowError, match="options 'us' and 'US' are the same tokens"):
        encode(lowercasing(), "us", "them", "US")
    with pytest.raises(BadRowError, match=r"option '\\u3000': answer is empty"):
        encode(lowercasing(), "us", "\u3000")
    with pytest.raises(BadRowError, match=r"option 'a<\|im_end\|>': .* contains the special token"):
        encode(tiny_tokenizer, "a<|im_end|>", "b")


def test_an_option_that_cannot_be_asked_costs_its_question_alone(tiny_tokenizer) -> None:
    bad = rendered(tiny_tokenizer, "yes<|im_end|>", "no")
    roomy = EvaluateConfig(max_prompt_tokens=99)
    assert "special token" in refusal(bad, roomy, 64)
    good = rendered(tiny_tokenizer, "yes", "no " * 20)
    longest = len(good.ids) + max(map(len, good.options.ids))
    assert refusal(good, roomy, longest + 1) == ""
    assert refusal(good, roomy, longest) == (
        f"prompt and longest option have {longest} tokens, the limit is {longest - 1}"
    )
