"""Settings of training: `train` in the recipe."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from nlirg.config.corpus import BUILTIN
from nlirg.section import Count, Positive, Section
from nlirg.weighting.weightings import NlirgWeighting, Weighting


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


class ReplayShareConfig(Section):
    """The base model's own answers (the recipe's `replay`) as rows beside the corpus.

    `share` of the trained tokens are theirs. `ce` trains them as answers like others, `kl` trains
    KL(base || model) on them. They have weight 1, unless they are to be `weighted` like the rest.
    """

    share: Annotated[float, Field(gt=0, lt=1)] = 0.2
    objective: Literal["ce", "kl"] = "ce"
    weighted: bool = False


class GuardConfig(Section):
    """What the model knew, watched while it trains: every `every` steps, and before the first.

    Half of the `rows` are general texts (`general`: the shipped ones, or a file), whose mean token
    loss is taken; half are the base model's own answers (the recipe's `replay`), on which
    KL(base || model) is. A run is within the bound while `metric` lies at most `max_rise` nats per
    token above its value before the first step. `validation.keep: best` then means the best of the
    models within the bound; `stop` ends a run that leaves it.
    """

    general: str = BUILTIN
    rows: Annotated[int, Field(ge=4)] = 100
    every: Count = 50
    max_rise: Positive = 0.1
    metric: Literal["loss", "kl"] = "loss"
    stop: bool = False


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
    epochs: Positive = 1.0
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
    replay: ReplayShareConfig | None = None
    guard: GuardConfig | None = None
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

    @property
    def keeps_best(self) -> bool:
        """Whether the model that a run is for is the best one on its way, not the last."""
        if self.validation is not None:
            return self.validation.keep == "best"
        return self.guard is not None and self.guard.stop

    @property
    def replays_divergence(self) -> bool:
        """Whether replay is trained on the base model's distributions, not on its words."""
        return self.replay is not None and self.replay.objective == "kl"

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
        stops = self.guard is not None and self.guard.stop
        if stops and self.validation is not None and self.validation.keep == "last":
            raise ValueError(
                "guard.stop ends a run once its last model is outside the bound, and "
                "validation.keep last would keep that one: set keep to best, or stop to false"
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
