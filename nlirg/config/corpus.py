"""Settings of the corpus: `data`, `score`, `select`, `order` and `encode` in the recipe."""

from __future__ import annotations

import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from nlirg.config.score_columns import ORDERS
from nlirg.section import Count, Positive, Section

# What tells how often rows are trained, and nothing about what they are.
MIXING = {"name", "weight", "repeat", "task_types"}


class TimesConfig(Section):
    """How often the rows of a source, or of a task type in it, are trained.

    `weight` is their share of the trained tokens: a source's of the corpus', a task type's of its
    source's. `repeat` is how often an epoch sees each of them. Without either that is once.
    """

    weight: Annotated[float, Field(gt=0, le=1)] | None = None
    repeat: Positive | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if self.weight is not None and self.repeat is not None:
            raise ValueError("weight and repeat both say how often rows are seen: give one of them")
        return self


class DataConfig(TimesConfig):
    """One source of rows; a recipe may give its `path` alone.

    `path` is a file, a directory, a glob, an `s3://` or `gs://` URI, a folder that
    `datasets.save_to_disk` wrote, or `hf://owner/name`, a dataset of the Hugging Face hub (its
    `config`, `split` and `revision`). `columns` maps our key to the source's:
    `{instruction: question, output: reply}`; null says that it has none, whatever its rows say
    (`{id: null}`: ids are made). Text files are in `encoding`. `weight` or `repeat`, also of single
    `task_types` in it, say how often its rows are trained; metrics call it by its `name`.
    """

    path: str
    name: Annotated[str, Field(min_length=1)] | None = None
    task_types: dict[str, TimesConfig] = Field(default_factory=dict)
    columns: dict[str, str | None] = Field(default_factory=dict)
    encoding: str = "utf-8"
    config: str | None = None
    split: str = "train"
    revision: str | None = None


BUILTIN = "builtin"  # of prompts and texts: what is shipped


class ReplayConfig(Section):
    """The base model's own answers to general prompts: `train.replay` and `train.guard` use them.

    `prompts` are the shipped ones (`builtin`) or a file of JSON lines or plain text. Answers are
    sampled at `temperature`: at 1 they are what the model says of itself, neither sharper nor
    flatter.
    """

    prompts: str = BUILTIN
    temperature: Positive = 1.0
    max_new_tokens: Count = 256


class ScoreConfig(Section):
    """Corpus scoring by one forward pass of the base model over the encoded samples.

    `batch_tokens` bounds the padded tokens of one forward. `max_bad_rows` is how many rows may be
    set aside for being unusable (a share below 1, else a number) before that is an error; rows
    that are only too long do not count. `ifd` adds instruction-following difficulty, which takes a
    second forward without the prompt; `reference_model` adds the excess loss over that model;
    `token_entropy` keeps the entropy of every trained token beside its loss.
    """

    precision: Literal["fp32", "bf16"] = "bf16"
    batch_tokens: Count = 16384
    max_bad_rows: Annotated[float, Field(ge=0)] = 0.1
    ifd: bool = False
    reference_model: str | None = None
    token_entropy: bool = False

    def meaning(self) -> dict[str, Any]:
        """The settings that decide the scores."""
        return self.model_dump(mode="json", exclude={"batch_tokens", "max_bad_rows"})


def _known_order(name: str) -> str:
    if name not in ORDERS:
        raise ValueError(f"{name!r} is not one of {', '.join(ORDERS)}")
    return name


Order = Annotated[str, AfterValidator(_known_order)]


class SelectConfig(Section):
    """Which scored rows to keep.

    `bands` are the bands of similarity to keep, `ranges` maps a score column to the lowest and
    highest value to keep (null: no bound). `dedup` drops rows whose prompt, answer or both (`row`)
    an earlier row has; with `near` also rows that nearly have. `per_task_type` bounds the rows of
    every task type, or of those named; `per_answer` the rows that share one answer.
    """

    bands: (
        Annotated[tuple[Literal["high", "good", "fair", "suspect"], ...], Field(min_length=1)]
        | None
    ) = None
    ranges: dict[str, tuple[float | None, float | None]] = Field(default_factory=dict)
    dedup: Literal["row", "prompt", "answer"] | None = None
    near: bool = False
    per_task_type: Count | dict[str, Count] | None = None
    per_answer: Count | None = None


# What rendering itself says; anything else is a variable of the template's own.
RENDERING = {
    *("conversation", "messages", "tools", "chat_template", "add_generation_prompt", "tokenize"),
    *("continue_final_message", "padding", "truncation", "max_length", "return_tensors"),
    *("return_dict", "return_assistant_tokens_mask", "tokenizer_kwargs", "strftime_now"),
}


def _free(options: dict[str, Any]) -> dict[str, Any]:
    if taken := sorted(RENDERING & options.keys()):
        raise ValueError(f"{taken[0]} is set by rendering itself, and is no option of a template")
    return options


class EncodeConfig(Section):
    """Rows to token ids and labels.

    `task: sft` renders conversations with the chat template and trains the assistant's turns
    (`loss_on`: all of them, or the last). `task: cpt` trains every token of plain text, packed
    into rows of `pack_length` tokens. `template_options` are further variables of the chat
    template; `date` is what it prints as today's, by default that of the day the run was begun.
    """

    task: Literal["sft", "cpt"] = "sft"
    max_length: Annotated[int, Field(ge=8)] = 2048
    overlong: Literal["truncate", "skip"] = "truncate"
    loss_on: Literal["all", "last"] = "all"
    template_options: Annotated[dict[str, Any], AfterValidator(_free)] = Field(default_factory=dict)
    date: datetime.date | None = None
    pack_length: Annotated[int, Field(ge=8)] = 2048
