"""What a corpus is made of: languages, lengths, and the answers and openings it repeats.

Counts of values are small Arrow tables that add up, so blocks of a corpus can be counted apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import regex
from numpy.typing import NDArray
from pydantic import BaseModel

COMMONEST = 10
UNDETERMINED = "und"  # ISO 639
# What the language model calls Wu, Cantonese or no language is Chinese with Latin letters in it,
# or lists of numbers.
_MEANT = {"wuu": "zh", "yue": "zh", "zxx": UNDETERMINED}
# Of a text no more is looked at: the cost grows with it, the answer changes little.
_LANGUAGE_CHARACTERS = 200
_LEAST_CONFIDENCE = 0.5
_LEAST_UNSPACED, _LEAST_KANA = 0.3, 0.1  # shares: a Chinese text may name English products
_LETTER = regex.compile(r"\p{L}")
_HAN, _KANA, _HANGUL = (
    regex.compile(rf"[{scripts}]")
    for scripts in (r"\p{Han}", r"\p{Hiragana}\p{Katakana}", r"\p{Hangul}")
)

LENGTHS = ("prompt_tokens", "answer_tokens")
PHRASES = ("answer", "opening")
COUNTED = (*LENGTHS, "language", *PHRASES)

Of = Literal["prompt", "answer", "row"]
Kind = Literal["exact", "near"]


class Phrase(BaseModel):
    """An answer or an opening, the rows that have it, and their share of the task type's rows."""

    text: str
    count: int
    share: float


class Lengths(BaseModel):
    """Quantiles of lengths in tokens."""

    p5: int
    p25: int
    p50: int
    p75: int
    p95: int
    max: int


class TypeProfile(BaseModel):
    """One task type, or all rows.

    Attributes:
        task_type: "" for rows without one, and for all rows.
        rows: number of rows.
        trained_tokens: tokens of the rows that are trained.
        prompt_tokens: tokens of a row that are not trained.
        answer_tokens: tokens of a row that are trained.
        answers: the commonest answers that more than one row has.
        openings: the commonest openings of answers that more than one row has.
        languages: share of the rows by language of the answer, commonest first.
    """

    task_type: str
    rows: int
    trained_tokens: int
    prompt_tokens: Lengths
    answer_tokens: Lengths
    answers: list[Phrase]
    openings: list[Phrase]
    languages: dict[str, float]


class DuplicateCount(BaseModel):
    """Duplicates of one sort.

    Attributes:
        of: what is compared.
        kind: near duplicates include the exact ones.
        rows: rows that have a duplicate.
        groups: of duplicates.
        largest: rows of the largest group.
        example: beginning of the largest group's first text.
    """

    of: Of
    kind: Kind
    rows: int
    groups: int
    largest: int
    example: str


class CorpusProfile(BaseModel):
    """`scores/profile.json`: all rows, each task type (most rows first), and duplicates."""

    all: TypeProfile
    types: list[TypeProfile]
    duplicates: list[DuplicateCount]


@cache
def _identifier() -> Any:
    """The language model, read once per process (half a second)."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(
        MODEL_FILE, norm_probs=True, min_confidence=_LEAST_CONFIDENCE
    )


def language(text: str) -> str:
    """ISO 639 code of a text's language.

    Han, kana and Hangul decide by themselves (zh, ja, ko), so short texts in them are safe. Other
    scripts are told apart by a naive Bayes model, which knows 20 letters badly.

    Returns:
        "" for a text without letters, "und" where the model is not sure: few words, code, names.
    """
    start = text[:_LANGUAGE_CHARACTERS]
    letters = len(_LETTER.findall(start))
    if not letters:
        return ""
    han, kana, hangul = (len(script.findall(start)) for script in (_HAN, _KANA, _HANGUL))
    unspaced = han + kana + hangul
    if unspaced >= _LEAST_UNSPACED * letters:
        if hangul > han + kana:
            return "ko"
        return "ja" if kana >= _LEAST_KANA * (han + kana) else "zh"
    found: str = _identifier().classify(start)[0]
    return _MEANT.get(found, found)


def count_values(rows: pa.Table, column: str) -> pa.Table:
    """Count the values of a column within every task type.

    Args:
        rows: with `task_type`, `row_index` and the column.
        column: to count; rows in which it is null do not count.

    Returns:
        task_type, value, count, first (least row_index), one row for each pair.
    """
    counted = rows.select(["task_type", column, "row_index"])
    counted = counted.rename_columns(["task_type", "value", "first"]).drop_null()
    ones = pa.array(np.ones(counted.num_rows, dtype=np.int64))
    return add_counts([counted.append_column("count", ones)])


def add_counts(counts: Sequence[pa.Table]) -> pa.Table:
    """Add counts of disjoint sets of rows."""
    groups = pa.concat_tables(counts).group_by(["task_type", "value"], use_threads=False)
    summed = groups.aggregate([("count", "sum"), ("first", "min")])
    return summed.rename_columns(["task_type", "value", "count", "first"])


def repeated(counts: pa.Table) -> pa.Table:
    """The counts of values that more than one row has, whatever its task type."""
    totals = counts.group_by("value", use_threads=False).aggregate([("count", "sum")])
    many = totals.filter(pc.field("count_sum") > 1)["value"]
    return counts.filter(pc.is_in(counts["value"], many))


def lengths(values: NDArray[np.int64], counts: NDArray[np.int64]) -> Lengths:
    """Exact quantiles of lengths; the p-th is the least that p % of the rows do not exceed.

    Args:
        values: different lengths in tokens, shape `[values]`, not empty.
        counts: rows of each length.
    """
    order = np.argsort(values)
    values, reached = values[order], np.cumsum(counts[order])
    places = {f"p{p}": np.searchsorted(reached, p / 100 * reached[-1]) for p in (5, 25, 50, 75, 95)}
    return Lengths(max=int(values[-1]), **{name: int(values[i]) for name, i in places.items()})


def describe_types(
    counts: Mapping[str, pa.Table], texts: Callable[[str, list[int]], dict[int, str]]
) -> tuple[TypeProfile, list[TypeProfile]]:
    """Describe all rows, and every task type.

    Args:
        counts: what `count_values` gives for each of `COUNTED`; of `PHRASES` the `repeated` ones
            are enough.
        texts: from a column and row_indices of rows to what to show of it, by row_index.

    Returns:
        All rows together, and the task types, those of most rows first.
    """
    total = {
        name: add_counts([table.set_column(0, "task_type", pa.repeat("", table.num_rows))])
        for name, table in counts.items()
    }
    sizes = counts["answer_tokens"].group_by("task_type").aggregate([("count", "sum")])
    sizes = sizes.sort_by([("count_sum", "descending"), ("task_type", "ascending")])
    names = sizes["task_type"].to_pylist()
    tables = [total, *(_of_type(counts, name) for name in names)]
    tops = [{name: _commonest(table[name]) for name in PHRASES} for table in tables]
    shown = {
        name: texts(name, sorted({row["first"] for top in tops for row in top[name]}))
        for name in PHRASES
    }
    all_rows, *each = (
        _describe(name, table, top, shown)
        for name, table, top in zip(["", *names], tables, tops, strict=True)
    )
    return all_rows, each


def _of_type(counts: Mapping[str, pa.Table], task_type: str) -> dict[str, pa.Table]:
    mine = pc.field("task_type") == task_type
    return {name: table.filter(mine) for name, table in counts.items()}


def _describe(
    task_type: str,
    counts: Mapping[str, pa.Table],
    tops: Mapping[str, list[dict[str, int]]],
    shown: Mapping[str, Mapping[int, str]],
) -> TypeProfile:
    """One task type from its own counts."""
    values = {
        name: (counts[name]["value"].to_numpy(), counts[name]["count"].to_numpy())
        for name in LENGTHS
    }
    rows = int(values["answer_tokens"][1].sum())
    phrases = {
        name: [
            Phrase(text=shown[name][row["first"]], count=row["count"], share=row["count"] / rows)
            for row in top
        ]
        for name, top in tops.items()
    }
    mix = counts["language"].sort_by([("count", "descending"), ("value", "ascending")]).to_pylist()
    return TypeProfile(
        task_type=task_type,
        rows=rows,
        trained_tokens=int(np.dot(*values["answer_tokens"])),
        prompt_tokens=lengths(*values["prompt_tokens"]),
        answer_tokens=lengths(*values["answer_tokens"]),
        answers=phrases["answer"],
        openings=phrases["opening"],
        languages={row["value"]: row["count"] / rows for row in mix},
    )


def _commonest(counts: pa.Table) -> list[dict[str, int]]:
    """The commonest values of more than one row; of equally common ones the earlier."""
    repeated = counts.filter(pc.field("count") > 1)
    order = pc.select_k_unstable(
        repeated, k=COMMONEST, sort_keys=[("count", "descending"), ("first", "ascending")]
    )
    found: list[dict[str, int]] = repeated.take(order).to_pylist()
    return found
