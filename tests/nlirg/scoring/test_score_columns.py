"""The table of score columns: what is computed is in it, and what is in it can be used."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pydantic import TypeAdapter, ValidationError

from nlirg.config.corpus import Order, ScoreConfig
from nlirg.config.score_columns import ORDERED_BY, SCORE_COLUMNS, columns_for
from nlirg.scoring.scores import TokenScores, sample_scores
from nlirg.weighting.zones import ZONES

README = Path(__file__).parents[3] / "nlirg" / "README.md"
NAMES = [column.name for column in SCORE_COLUMNS]
# Computed where the tokens or two models are at hand, not by `sample_scores`.
ELSEWHERE = {"n_tokens", "n_trained", "ifd", "excess_loss"}


def test_every_score_that_is_computed_is_a_column_of_its_type() -> None:
    scores = sample_scores(TokenScores(*np.ones((3, 4), np.float32)))
    del scores["spans"]  # evidence, not a score
    assert sorted([*scores, *ELSEWHERE]) == sorted(NAMES)
    for column in SCORE_COLUMNS:
        if column.name in scores:
            pa.array([scores[column.name]], pa.type_for_alias(column.dtype))
    assert {f"zone_{zone}" for zone in ZONES} == {n for n in NAMES if n.startswith("zone_")}


def test_scores_that_must_be_asked_for_are_there_only_then() -> None:
    assert {column.name for column in columns_for(ScoreConfig())} == set(NAMES) - {
        "ifd",
        "excess_loss",
    }
    both = ScoreConfig(ifd=True, reference_model="m")
    assert [column.name for column in columns_for(both)] == NAMES


def test_what_is_charted_or_ordered_by_is_a_number() -> None:
    for column in SCORE_COLUMNS:
        if column.chart or column.orders or column.listed:
            assert column.selectable, column.name
    orders = [name for column in SCORE_COLUMNS for name in column.orders]
    assert len(orders) == len(set(orders)) == len(ORDERED_BY)


def test_an_unknown_order_is_refused_with_those_there_are() -> None:
    adapter = TypeAdapter(Order)
    assert adapter.validate_python("mixed") == "mixed"
    with pytest.raises(
        ValidationError, match=r"'mixd' is not one of easy_to_hard, mixed, .*random"
    ):
        adapter.validate_python("mixd")


def table() -> str:
    """The README's table of scores."""
    lines = ["| column | is | `order` that sorts by it |", "|---|---|---|"]
    for column in SCORE_COLUMNS:
        meaning = column.meaning + (f"; with `score.{column.needs}`" if column.needs else "")
        orders = ", ".join(f"`{order}`" for order in column.orders)
        lines.append(f"| `{column.name}` | {meaning} | {orders} |".replace("|  |", "| |"))
    return "\n".join(lines) + "\n"


def test_the_readme_explains_every_score() -> None:
    assert table() in README.read_text(encoding="utf-8"), f"put this into it:\n{table()}"
