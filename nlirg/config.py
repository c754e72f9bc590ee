"""Settings of scoring, encoding and training: `score`, `encode` and `train` in the recipe."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

# Names of the loss zones, easy to hopeless; `nlirg.weights.zone_shares` gives their bounds.
ZONES = ("low", "mid", "high", "discarded")


class Section(BaseModel):
    """Base of every recipe section: unknown keys are errors, values are frozen once read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Positive = Annotated[float, Field(gt=0)]


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


def _named(value: Any) -> Any:
    """Let a recipe say `weighting: uniform`, or give breakpoints alone and mean NLIRG's."""
    if isinstance(value, str):
        return {"name": value}
    if isinstance(value, dict) and "name" not in value:
        return {"name": "nlirg", **value}
    return value


Weighting = Annotated[
    NlirgWeighting | UniformWeighting, Field(discriminator="name"), BeforeValidator(_named)
]


# What vLLM serves: an adapter on other layers would train, and then be ignored in generation.
LoraTarget = Literal["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


class LoraConfig(Section):
    """Low-rank adapters (arXiv 2106.09685) on the linear layers named by `target_modules`."""

    rank: Annotated[int, Field(ge=1)] = 16
    alpha: Positive = 32.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    target_modules: Annotated[tuple[LoraTarget, ...], Field(min_length=1)] = get_args(LoraTarget)


class ScoreConfig(Section):
    """Corpus scoring by one forward pass of the base model over the encoded samples."""

    batch_size: Annotated[int, Field(ge=1)] = 16
    precision: Literal["fp32", "bf16"] = "bf16"


class EncodeConfig(Section):
    """Chat template to token ids and labels."""

    max_length: Annotated[int, Field(ge=8)] = 2048
    overlong: Literal["truncate", "skip"] = "truncate"
    template_options: dict[str, Any] = Field(default_factory=dict)


OPERATIONAL = {"checkpoint_every", "num_to_keep", "max_failures", "log_every"}


class TrainConfig(Section):
    """One training run of the windowed trainer."""

    weighting: Weighting = NlirgWeighting()
    normalizer: Literal["tokens", "nonzero", "weights"] = "nonzero"
    token_batch: Annotated[int, Field(ge=1)] | Literal["all"] = 10
    batch_size: Annotated[int, Field(ge=1)] = 8
    epochs: Annotated[int, Field(ge=1)] = 1
    max_steps: Annotated[int, Field(ge=1)] | None = None
    learning_rate: Positive = 1e-4
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.03
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    max_grad_norm: Positive | None = 1.0
    lora: LoraConfig | None = None
    precision: Literal["fp32", "bf16"] = "bf16"
    zero_stage: Literal[0, 1, 2, 3] = 2
    num_workers: Annotated[int, Field(ge=1)] = 1
    checkpoint_every: Annotated[int, Field(ge=1)] = 500
    num_to_keep: Annotated[int, Field(ge=1)] = 2
    max_failures: Annotated[int, Field(ge=0)] = 2
    log_every: Annotated[int, Field(ge=1)] = 10

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
        if self.precision == "bf16" and self.zero_stage == 0:
            raise ValueError(
                "precision bf16 needs zero_stage 1, 2 or 3: at stage 0 DeepSpeed keeps no fp32 "
                "master weights and takes a dummy optimizer step at start"
            )
        return self
