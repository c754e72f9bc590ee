"""Settings of scoring, encoding and training: `score`, `encode` and `train` in the recipe."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator


class Section(BaseModel):
    """Base of every recipe section: unknown keys are errors, values are frozen once read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class NlirgWeighting(Section):
    """Breakpoints of NLIRG; see `nlirg.weights.nlirg_weights` for the formula. Losses in nats."""

    name: Literal["nlirg"] = "nlirg"
    x0: float = 1.2
    k: Positive = 1.7
    loss_threshold: Positive = 3.0
    hard_x0: float = 6.2
    hard_k: Positive = 1.0
    loss_deadline: Positive = 15.0
    max_weight: Positive = 1.0
    min_weight: Annotated[float, Field(ge=0)] = 5e-8

    @model_validator(mode="after")
    def _ordered(self) -> NlirgWeighting:
        if self.loss_threshold >= self.loss_deadline:
            raise ValueError(
                f"loss_threshold ({self.loss_threshold}) must lie below "
                f"loss_deadline ({self.loss_deadline})"
            )
        return self


class UniformWeighting(Section):
    """Ordinary SFT: every trained token has weight 1."""

    name: Literal["uniform"] = "uniform"


class DftWeighting(Section):
    """Dynamic fine-tuning: w = p, the model's probability of the token (arXiv 2508.05629)."""

    name: Literal["dft"] = "dft"


class EaftWeighting(Section):
    """Entropy-adaptive fine-tuning: w = (H_top20 / 3) ** alpha (arXiv 2601.02151)."""

    name: Literal["eaft"] = "eaft"
    alpha: Positive = 1.0


class FocalWeighting(Section):
    """Focal loss: w = (1 - p) ** gamma (arXiv 1708.02002)."""

    name: Literal["focal"] = "focal"
    gamma: Annotated[float, Field(ge=0)] = 2.0


class StmWeighting(Section):
    """Selective token masking: w = 1 where the base model's loss is below `max_base_loss` nats.

    The base model's losses come from the scores; the default is ln 2.5 (arXiv 2501.14315).
    """

    name: Literal["stm"] = "stm"
    max_base_loss: Positive = 0.9162907


class RandomWeighting(Section):
    """A control: NLIRG's weights of each window, shuffled among its tokens."""

    name: Literal["random"] = "random"
    nlirg: NlirgWeighting = NlirgWeighting()


def _named(value: Any) -> Any:
    """Let a recipe say `weighting: uniform`, or give breakpoints alone and mean NLIRG's."""
    if isinstance(value, str):
        return {"name": value}
    if isinstance(value, dict) and "name" not in value:
        return {"name": "nlirg", **value}
    return value


Weighting = Annotated[
    NlirgWeighting
    | UniformWeighting
    | DftWeighting
    | EaftWeighting
    | FocalWeighting
    | StmWeighting
    | RandomWeighting,
    Field(discriminator="name"),
    BeforeValidator(_named),
]


class LoraConfig(Section):
    """Low-rank adapters (arXiv 2106.09685) on the linear layers named by `target_modules`.

    `all-linear` means every linear layer but the output head. `rslora` scales by
    alpha / sqrt(rank) (arXiv 2312.03732). `resume_from` is the directory of an adapter to
    continue instead of starting from a new one. `merge` also exports base and adapter as one
    model, to `merged/`.
    """

    rank: Count = 16
    alpha: Positive = 32.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    target_modules: Literal["all-linear"] | Annotated[tuple[str, ...], Field(min_length=1)] = (
        "all-linear"
    )
    rslora: bool = False
    resume_from: str | None = None
    merge: bool = False


class DataConfig(Section):
    """One source of rows; a recipe may give its `path` alone.

    `path` is a file, a directory, a glob, an `s3://` or `gs://` URI, a folder that
    `datasets.save_to_disk` wrote, or `hf://owner/name`, a dataset of the Hugging Face hub (its
    `config`, `split` and `revision`). `columns` maps our key to the source's:
    `{instruction: question, output: reply}`. Text files are in `encoding`.
    """

    path: str
    columns: dict[str, str] = Field(default_factory=dict)
    encoding: str = "utf-8"
    config: str | None = None
    split: str = "train"
    revision: str | None = None


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


Order = Literal["similarity_rank", "filtered_rank", "easy_to_hard", "mixed", "length", "random"]


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


class EncodeConfig(Section):
    """Rows to token ids and labels.

    `task: sft` renders conversations with the chat template and trains the assistant's turns
    (`loss_on`: all of them, or the last). `task: cpt` trains every token of plain text, packed
    into rows of `pack_length` tokens.
    """

    task: Literal["sft", "cpt"] = "sft"
    max_length: Annotated[int, Field(ge=8)] = 2048
    overlong: Literal["truncate", "skip"] = "truncate"
    loss_on: Literal["all", "last"] = "all"
    template_options: dict[str, Any] = Field(default_factory=dict)
    pack_length: Annotated[int, Field(ge=8)] = 2048


class ValidationConfig(Section):
    """Mean token loss on `rows` held-out samples every `every` steps and at the end.

    `patience` stops a run after so many validations without a new best; `keep` says whether the
    exported model is the best by this loss or the last.
    """

    rows: Count = 200
    every: Count = 200
    patience: Count | None = None
    keep: Literal["best", "last"] = "best"


class DistillationConfig(Section):
    """A teacher's distribution as the target beside the label.

    The token's objective is (1 - label_share) * CE(teacher) + label_share * CE(label), weighted
    by the label's loss. The teacher lies on the worker's own device, or with `own_device` on a
    second GPU of the worker.
    """

    teacher: str
    label_share: Annotated[float, Field(ge=0, le=1)] = 0.5
    precision: Literal["fp32", "bf16"] = "bf16"
    own_device: bool = False


class TrackingConfig(Section):
    """Trackers beside `metrics.jsonl` and TensorBoard, through their own libraries.

    `wandb` are arguments of `wandb.init`, `mlflow` has `tracking_uri` and `experiment`. Keys
    belong in the trackers' own environment variables, never here.
    """

    wandb: dict[str, str] | None = None
    mlflow: dict[str, str] | None = None


# Settings that say how to get to the result safely, and how to watch it; not what it is.
OPERATIONAL = {
    "checkpoint_every",
    "num_to_keep",
    "max_failures",
    "log_every",
    "micro_batch_size",
    "num_workers",
    "tracking",
}


class TrainConfig(Section):
    """One training run of the windowed trainer; `nlirg/README.md` says what each key means."""

    weighting: Weighting = NlirgWeighting()
    normalizer: Literal["tokens", "nonzero", "weights"] = "nonzero"
    token_batch: Count | Literal["all"] = 10
    batch_size: Count = 8
    micro_batch_size: Count | None = None
    gradient_accumulation_steps: Count = 1
    gradient_context: Annotated[int, Field(ge=0)] | Literal["full"] = "full"
    reference_compat: bool = False
    epochs: Count = 1
    max_steps: Count | None = None
    max_tokens: Count | None = None
    learning_rate: Positive = 1e-4
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.03
    warmup_steps: Annotated[int, Field(ge=0)] | None = None
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    max_grad_norm: Positive | None = 1.0
    lora: LoraConfig | None = None
    distillation: DistillationConfig | None = None
    validation: ValidationConfig | None = None
    precision: Literal["fp32", "bf16", "fp16"] = "bf16"
    gradient_checkpointing: bool = False
    attention: Literal["auto", "eager", "sdpa", "flash_attention_2"] = "auto"
    zero_stage: Literal[0, 1, 2, 3] = 2
    deepspeed: str | None = None
    num_workers: Count = 1
    checkpoint_every: Count | Literal["epoch"] = 500
    num_to_keep: Count = 2
    max_failures: Annotated[int, Field(ge=0)] = 2
    log_every: Count = 10
    tracking: TrackingConfig = TrackingConfig()

    def meaning(self) -> dict[str, Any]:
        """The settings that decide the result; the rest says how to get there safely."""
        return self.model_dump(mode="json", exclude=OPERATIONAL)

    @model_validator(mode="after")
    def _possible(self) -> TrainConfig:
        if self.batch_size % self.num_workers:
            raise ValueError(
                f"num_workers ({self.num_workers}) must divide batch_size ({self.batch_size}): "
                "every worker serves the same number of slots"
            )
        if self.precision != "fp32" and self.zero_stage == 0:
            raise ValueError(
                f"precision {self.precision} needs zero_stage 1, 2 or 3: at stage 0 DeepSpeed "
                "keeps no fp32 master weights and takes a dummy optimizer step at start"
            )
        if self.gradient_context != "full" and self.gradient_checkpointing:
            raise ValueError(
                "gradient_checkpointing recomputes the prefix that gradient_context "
                f"{self.gradient_context} leaves out: use one of the two"
            )
        if self.gradient_context != "full" and not isinstance(self.token_batch, int):
            raise ValueError(
                f"gradient_context {self.gradient_context} needs windows: set token_batch to a "
                "number, or gradient_context to full"
            )
        if self.reference_compat and self.token_batch == 1:
            raise ValueError(
                "reference_compat with token_batch 1 trains nothing: the reference drops the last "
                "token of every window"
            )
        return self
