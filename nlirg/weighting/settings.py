"""Settings of the weightings: the recipe's `train.weighting`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from nlirg.section import Positive, Section


class NlirgWeighting(Section):
    """Breakpoints of NLIRG, in nats; formula: `nlirg.weighting.functions.nlirg_weights`."""

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
