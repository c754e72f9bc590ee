"""The demo's tokenizer: byte-level BPE over the world's own text, with a chat template."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from random import Random

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from pipelines.demo.vertical import draw_jobs
from pipelines.demo.words import CITIES, NAMES, WORDS
from pipelines.demo.world import conversations

VOCABULARY = 1024
POSITIONS = 2048
CONVERSATIONS = 4000
TICKETS = 600
PAD, START, END = "<|pad|>", "<|im_start|>", "<|im_end|>"

# Words keep their leading space; numbers stand apart from it and in pairs of digits, so that a
# number below 100 is one and the same token wherever it stands.
PIECES = Regex(r"\p{N}{1,2}| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s")

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def _texts(seed: int) -> Iterator[str]:
    """What the merges are learned from: the pre-training world, the vertical, all numbers."""
    for messages in islice(conversations(seed), CONVERSATIONS):
        yield from (message["content"] for message in messages)
    for job in draw_jobs(Random(seed), TICKETS):
        yield f"{job.instruction}\n{job.ticket.text}\n{job.answer}"
    yield from [" ".join(map(str, range(100)))] * 300
    yield from ["".join(f" {word}" for word in WORDS + NAMES + CITIES)] * 250
    yield from ["system\n", "user\n", "assistant\n"] * 50


def build_tokenizer(seed: int) -> PreTrainedTokenizerFast:
    """Learn the tokenizer; every Unicode text encodes, unknown characters as their bytes."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(PIECES, behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[AddedToken(text, special=True) for text in (PAD, START, END)],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(seed), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[START],
        model_max_length=POSITIONS,
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE,
    )
