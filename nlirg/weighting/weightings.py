"""The weightings: the recipe's `train.weighting`.

To add one, write its class here and register it. The recipe's type and the trainer follow, and a
test asks for its row in the table of `nlirg/README.md`.
"""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import BeforeValidator, Field, model_validator

from nlirg.section import Positive
from nlirg.weighting.base import Statistic, TokenStats, TokenWeighting

if TYPE_CHECKING:
    from torch import Tensor

EPSILON = 2.0**-23  # float32 machine epsilon

WEIGHTINGS: dict[str, type[TokenWeighting]] = {}

W = TypeVar("W", bound=TokenWeighting)


def registered(weighting: type[W]) -> type[W]:
    """Let recipes choose a weighting by the default of its `name`."""
    WEIGHTINGS[weighting.model_fields["name"].default] = weighting
    return weighting


@registered
class NlirgWeighting(TokenWeighting):
    """Weigh tokens by the zone their loss lies in; breakpoints in nats.

        L <= loss_threshold                    w = max_weight * sigmoid(k * (L - x0)) + eps
        loss_threshold < L < loss_deadline     w = max_weight * sigmoid(-hard_k * (L - hard_x0))
                                                   + eps + min_weight
        L >= loss_deadline, or not finite      w = 0

    eps is the float32 machine epsilon. Learned tokens (small L) and probable label errors (large
    L) get little, the range between them nearly `max_weight`. This is `dynamic_sigmoid_batch` of
    the NLIRG reference implementation (Y-Trainer).
    """

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

    def of_losses(self, loss: Tensor) -> Tensor:
        """Weigh losses in nats of any shape and precision; float32 of that shape, detached."""
        loss = loss.detach().float()
        easy = self.max_weight * (self.k * (loss - self.x0)).sigmoid() + EPSILON
        hard = self.max_weight * (-self.hard_k * (loss - self.hard_x0)).sigmoid() + EPSILON
        weights = easy.where(loss <= self.loss_threshold, hard + self.min_weight)
        return weights.where(loss.isfinite() & (loss < self.loss_deadline), 0.0)

    def formula(self, stats: TokenStats) -> Tensor:
        """See `TokenWeighting.formula`."""
        return self.of_losses(stats.loss)


@registered
class UniformWeighting(TokenWeighting):
    """Ordinary SFT: every trained token has weight 1."""

    name: Literal["uniform"] = "uniform"

    def formula(self, stats: TokenStats) -> Tensor:
        """See `TokenWeighting.formula`."""
        return stats.loss.new_ones(stats.loss.shape)


@registered
class DftWeighting(TokenWeighting):
    """Dynamic fine-tuning: w = p, the model's probability of the token (arXiv 2508.05629)."""

    name: Literal["dft"] = "dft"

    def formula(self, stats: TokenStats) -> Tensor:
        """See `TokenWeighting.formula`."""
        return (-stats.loss).exp()


@registered
class EaftWeighting(TokenWeighting):
    """Entropy-adaptive fine-tuning: w = (H_top20 / 3) ** alpha (arXiv 2601.02151)."""

    name: Literal["eaft"] = "eaft"
    alpha: Positive = 1.0
    needs: ClassVar[frozenset[Statistic]] = frozenset({"top_entropy"})

    def formula(self, stats: TokenStats) -> Tensor:
        """See `TokenWeighting.formula`."""
        return (stats.known("top_entropy") / 3).pow(self.alpha)


@registered
class FocalWeighting(TokenWeighting):
    """Focal loss: w = (1 - p) ** gamma (arXiv 1708.02002)."""

    name: Literal["focal"] = "focal"
    gamma: Annotated[float, Field(ge=0)] = 2.0

    def formula(self, stats: TokenStats) -> Tensor:
        """See `TokenWeighting.formula`."""
        # expm1 keeps what 1 - p would lose where p is near 1.
        return (-(-stats.loss).expm1()).pow(self.gamma)


@registered
class StmWeighting(TokenWeighting):
    """Selective token masking: w = 1 where the base model's loss is below `max_base_loss` nats.

    The base model's losses come from the scores; the default is ln 2.5 (arXiv 2501.14315).
    """

    name: Literal["stm"] = "stm"
    max_base_loss: Positive = 0.9162907
    needs: ClassVar[frozenset[Statistic]] = frozenset({"base_loss"})

    def formula(self, stats: TokenStats) -> Tensor:
        """See `TokenWeighting.formula`."""
        return (stats.known("base_loss") < self.max_base_loss).float()


@registered
class RandomWeighting(TokenWeighting):
    """A control: NLIRG's weights of each window, shuffled among its tokens."""

    name: Literal["random"] = "random"
    nlirg: NlirgWeighting = NlirgWeighting()
    needs: ClassVar[frozenset[Statistic]] = frozenset({"windows"})

    def formula(self, stats: TokenStats) -> Tensor:
        """See `TokenWeighting.formula`."""
        import torch

        weights, windows = self.nlirg.of_losses(stats.loss), stats.known("windows")
        shuffled = weights.clone()
        for window in windows.unique().tolist():
            # Tokens that cannot be trained stay out: each of the others gets one of their weights.
            inside = ((windows == window) & (weights > 0)).nonzero().squeeze(-1)
            draw = torch.Generator().manual_seed(window)
            shuffled[inside] = weights[inside[torch.randperm(len(inside), generator=draw)]]
        return shuffled


def _named(value: Any) -> Any:
    """Let a recipe say `weighting: uniform`, or give breakpoints alone and mean NLIRG's."""
    if isinstance(value, str):
        return {"name": value}
    if isinstance(value, dict) and "name" not in value:
        return {"name": "nlirg", **value}
    return value


if TYPE_CHECKING:
    Weighting = TokenWeighting
else:  # pydantic reads the one that `name` says
    Weighting = Annotated[
        reduce(or_, WEIGHTINGS.values()), Field(discriminator="name"), BeforeValidator(_named)
    ]
