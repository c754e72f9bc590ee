"""The scores of a corpus, one entry a column.

The schema of `scores/*.parquet`, `select.ranges`, `order`, the corpus report and the table in
nlirg/README.md follow from this table. A new score is computed in `nlirg.scoring.scores` and
described here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

NUMBERS = ("int32", "float64")
RANDOM = "random"  # the order that needs no score


@dataclass(frozen=True)
class Chart:
    """How the report draws a score's distribution: label, unit, and width of the finest bin."""

    label: str
    unit: str
    bin_width: float


@dataclass(frozen=True)
class ScoreColumn:
    """One score of every row.

    Attributes:
        name: of the column.
        meaning: what it is, with its unit.
        dtype: Arrow's name of its type; numbers can be selected on by `select.ranges`.
        orders: names of the orders that sort by it.
        descending: whether those put its highest values first.
        chart: how the report draws its distribution; None if it does not.
        listed: whether the report's list of rows shows it and can be sorted by it.
        needs: the key of `score` that asks for it; "" if it is always there.
    """

    name: str
    meaning: str
    dtype: str = "float64"
    orders: tuple[str, ...] = ()
    descending: bool = False
    chart: Chart | None = None
    listed: bool = False
    needs: str = ""

    @property
    def selectable(self) -> bool:
        """Whether `select.ranges` takes it."""
        return self.dtype in NUMBERS


SCORE_COLUMNS = (
    ScoreColumn(
        "anomaly",
        "how suspicious the row is: mean loss, and half the loss of its last token (nats)",
        chart=Chart("Anomaly", "", 0.01),
        listed=True,
    ),
    ScoreColumn(
        "mean_loss",
        "mean loss of the trained tokens (nats)",
        orders=("easy_to_hard", "mixed"),
        chart=Chart("Mean loss", "nats", 0.01),
        listed=True,
    ),
    ScoreColumn("max_loss", "largest loss of a trained token (nats)", listed=True),
    ScoreColumn("perplexity", "exp of the mean loss"),
    ScoreColumn(
        "mean_entropy",
        "mean entropy of the model's predictions (nats)",
        chart=Chart("Mean entropy", "nats", 0.01),
        listed=True,
    ),
    ScoreColumn(
        "similarity",
        "cosine of loss and entropy over the trained tokens, 0 to 1",
        chart=Chart("Similarity of loss and entropy", "", 0.01),
        listed=True,
    ),
    ScoreColumn("band", "of the similarity: high, good, fair or suspect", dtype="string"),
    ScoreColumn(
        "similarity_centered",
        "correlation of loss and entropy, -1 to 1",
        orders=("similarity_rank",),
        descending=True,
        listed=True,
    ),
    ScoreColumn(
        "filtered_rank",
        "tokens with a loss above 3 nats; half where the entropy is above 1",
        orders=("filtered_rank",),
        listed=True,
    ),
    ScoreColumn("divergence", "anomaly score of the loss-entropy divergence analysis", listed=True),
    ScoreColumn("n_spans", "spans of tokens that the analysis flags", dtype="int32"),
    ScoreColumn("min_k", "Min-K%++: mean of the lowest 20 % of (ln p + H) / sigma", listed=True),
    ScoreColumn("zone_low", "share of the trained tokens with a loss up to 1.45 nats"),
    ScoreColumn("zone_mid", "share between 1.45 and 6.6 nats"),
    ScoreColumn("zone_high", "share from 6.6 nats to 15"),
    ScoreColumn("zone_discarded", "share from 15 nats on"),
    ScoreColumn(
        "n_trained",
        "trained tokens",
        dtype="int32",
        orders=("length",),
        chart=Chart("Trained tokens", "", 1),
        listed=True,
    ),
    ScoreColumn(
        "n_tokens",
        "tokens of the row: of all its training samples",
        dtype="int32",
        chart=Chart("Tokens of the whole row", "", 1),
    ),
    ScoreColumn(
        "ifd",
        "instruction-following difficulty: mean loss with the prompt over that without it",
        listed=True,
        needs="ifd",
    ),
    ScoreColumn(
        "excess_loss",
        "mean loss less that of the reference model (nats)",
        listed=True,
        needs="reference_model",
    ),
)

# Order -> the score it sorts by.
ORDERED_BY = {name: column for column in SCORE_COLUMNS for name in column.orders}
ORDERS = (*ORDERED_BY, RANDOM)


def columns_for(score: Any) -> Sequence[ScoreColumn]:
    """The columns that a corpus has which was scored with these settings (`score` of a recipe)."""
    return [column for column in SCORE_COLUMNS if not column.needs or getattr(score, column.needs)]
