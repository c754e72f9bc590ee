"""What a weighting is: settings, the statistics it needs of every token, and a formula.

Recipes are read without torch, so it is imported here for its types alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from nlirg.section import Section

if TYPE_CHECKING:
    from torch import Tensor

Statistic = Literal["top_entropy", "base_loss", "windows"]


@dataclass(frozen=True)
class TokenStats:
    """What a weighting may know of n trained tokens; all float32 [n] without gradient.

    Attributes:
        loss: token losses in nats.
        top_entropy: entropy in nats of the 20 likeliest tokens' renormalised distribution.
        base_loss: losses under the base model, from the scores; NaN where unknown.
        windows: int64 [n], equal for tokens of one window of one slot, and seed of its shuffle. A
            weighting that needs it is given all tokens of a window at once.
    """

    loss: Tensor
    top_entropy: Tensor | None = None
    base_loss: Tensor | None = None
    windows: Tensor | None = None

    def known(self, name: Statistic) -> Tensor:
        """Return a statistic [n].

        Raises:
            ValueError: if it is missing.
        """
        values: Tensor | None = getattr(self, name)
        if values is None:
            raise ValueError(f"this weighting needs {name} of every token")
        return values


class TokenWeighting(Section):
    """Base of every weighting: its settings are the fields, its class name its source.

    Attributes:
        name: what a recipe calls it.
        needs: statistics beside the loss that its formula reads; they are computed for no other.
    """

    name: str
    needs: ClassVar[frozenset[Statistic]] = frozenset()

    def formula(self, stats: TokenStats) -> Tensor:
        """Return weights [n] >= 0; those of losses that are not finite do not matter."""
        raise NotImplementedError

    def weigh(self, stats: TokenStats) -> Tensor:
        """Apply the formula.

        Returns:
            Weights [n], float32, detached, finite and >= 0; 0 where the loss is not finite.

        Raises:
            ValueError: if a statistic that the weighting needs is missing.
        """
        weights = self.formula(stats).detach()
        return weights.where(stats.loss.isfinite() & weights.isfinite(), 0.0)
