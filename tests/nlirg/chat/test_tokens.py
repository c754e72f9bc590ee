"""Token ids: those of the whole text, wherever the tokenizer's borders allow."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)
from transformers import PreTrainedTokenizerFast

from nlirg.chat.encoder import ChatEncoder
from nlirg.labels import IGNORE
from tests.conftest import CHATML

WORDS = ["Look on the shelf", "the user and the assistant", "part of the system", "a\nb\n\nc"]
SPECIAL = ["<s>", "</s>", "<|im_start|>", "<|im_end|>"]
words = st.text(alphabet="aLo \n\n部", min_size=1, max_size=8).filter(str.strip)


def trained(tokenizer: Tokenizer, strip: bool = False) -> PreTrainedTokenizerFast:
    trainer = trainers.BpeTrainer(vocab_size=200, show_progress=False, special_tokens=["<unk>"])
    tokenizer.train_from_iterator(WORDS * 8, trainer)
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False, rstrip=strip) for token in SPECIAL]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="<|im_end|>",
        chat_template=CHATML,
    )


def metaspace(scheme: str) -> PreTrainedTokenizerFast:
    """As Llama's and Mistral's: a space is put before the first word, or before every piece."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme=scheme)
    return trained(tokenizer)


def legacy() -> PreTrainedTokenizerFast:
    """As Llama-2's: a normalizer puts it there."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Replace("▁", " ")
    return trained(tokenizer)


def merging(strip: bool = False) -> PreTrainedTokenizerFast:
    """Newlines merge, and so a prompt's last with an answer's first."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    return trained(tokenizer, strip)


TOKENIZERS = {
    "first": lambda: metaspace("first"),
    "always": lambda: metaspace("always"),
    "never": lambda: metaspace("never"),
    "legacy": legacy,
    "merging": merging,
    "stripping": lambda: merging(strip=True),
}


@pytest.fixture(scope="module", params=TOKENIZERS)
def chat(request) -> ChatEncoder:
    return ChatEncoder(TOKENIZERS[request.param]())


@settings(max_examples=60)
@given(contents=st.lists(words, min_size=2, max_size=6))
def test_samples_are_the_tokens_of_their_whole_text(chat, contents) -> None:
    contents = contents[: len(contents) // 2 * 2]
    turns = [
        {"role": ("user", "assistant")[n % 2], "content": content}
        for n, content in enumerate(contents)
    ]
    samples = chat.encode(turns).samples
    text = chat.template.render(turns, prompt=False)
    whole = chat.tokenizer.encode(text, add_special_tokens=False)
    if len(samples) == 1 and samples[0].exact:
        assert samples[0].input_ids == whole[: len(samples[0].input_ids)]
    begins = []
    for sample in samples:
        for n, (before, label) in enumerate(itertools.pairwise(sample.labels)):
            if before == IGNORE and label != IGNORE:
                begins.append(sample.input_ids[: n + 1])
    prompts = [chat.prompt(turns[:n])[1] for n in range(1, len(turns), 2)]
    assert begins == prompts, "every answer follows the tokens that generation sees"


def test_no_space_is_put_before_an_answer(chat) -> None:
    """What stands between them is a line's end."""
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "Look"}]
    (sample,) = chat.encode(turns).samples
    start = sample.labels.index(next(label for label in sample.labels if label != IGNORE))
    tokens = chat.tokenizer.convert_ids_to_tokens(sample.input_ids[start:])
    assert not tokens[0].startswith("▁")
    assert "".join(tokens) == "Look<|im_end|>"


def test_an_answer_that_would_merge_with_its_prompt_is_encoded_apart() -> None:
    chat = ChatEncoder(merging())
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "\nc"}]
    (sample,) = chat.encode(turns).samples
    _, prompt = chat.prompt(turns[:1])
    whole = chat.template.render(turns, prompt=False)
    assert not sample.exact
    assert sample.input_ids[: len(prompt)] == prompt
    assert chat.tokenizer.encode(whole, add_special_tokens=False)[: len(prompt)] != prompt
    follow_up = [*turns, {"role": "user", "content": "b"}, {"role": "assistant", "content": "L"}]
    first, second = chat.encode(follow_up).samples
    assert first == sample
    assert second.exact, "what follows sees the answer as one text with its prompt"
