"""Whether a scored corpus can be used: few enough bad rows, and every usable row there, once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from nlirg.corpus.rows import UNIQUE_IDS, repetition
from nlirg.errors import InputError
from pipelines.score.ledger import BadRows, ShardRows
from pipelines.score.survey import Survey, group_batches, id_hashes

REASONS = 3  # that an error or a summary names


def check_bad_rows(usable: int, bad: BadRows, limit: float, quarantine: Path) -> None:
    """Refuse a corpus of which no row can be used, or too many cannot.

    Args:
        usable: rows to score.
        bad: rows set aside; those that are only too long do not count.
        limit: a share of the rows below 1, else a number of rows.
        quarantine: file of the rows set aside.

    Raises:
        InputError: with counts and the commonest reasons.
    """
    count = bad.unusable.total()
    rows = usable + count
    why = "; ".join(f"{reason} ({n} rows)" for reason, n in bad.unusable.most_common(REASONS))
    if (more := len(bad.unusable) - REASONS) > 0:
        why += f"; and {more} more reasons"
    if not usable:
        aside = count + bad.overlong.total()
        why = why or next(iter(bad.overlong), "the files hold no rows")
        raise InputError(
            f"no usable row in the corpus ({aside} quarantined; most often: {why}); "
            f"see {quarantine}"
        )
    if count > (limit if limit >= 1 else limit * rows):
        allowed = f"{limit:g} rows" if limit >= 1 else f"{limit:.1%} of them"
        raise InputError(
            f"{count} of {rows} rows cannot be used, more than score.max_bad_rows allows "
            f"({allowed}): {why}; see {quarantine}; mend the corpus, or raise max_bad_rows: what "
            "is scored is kept"
        )


def check_every_row_once(survey: Survey, shards: Mapping[int, ShardRows]) -> None:
    """Refuse scores that lack a usable row, or hold one twice.

    Args:
        survey: of all scores.
        shards: shard -> the rows it gives.

    Raises:
        InputError: if ids repeat, naming one and two places of it; or if the files hold fewer
            rows of a shard than it gives, or more.
    """
    _check_ids(survey)
    for shard, rows in shards.items():
        if (scored := survey.shards[shard]) != rows.usable:
            raise InputError(
                f"part {shard} of the corpus has {rows.usable} usable rows, and {scored} of it "
                "are scored: run the same command again, it scores what is missing"
            )


def _check_ids(survey: Survey) -> None:
    """Refuse ids that stand on more than one row."""
    hashes = np.sort(np.concatenate([np.empty(0, np.uint64), *survey.id_hashes]))
    repeated = np.unique(hashes[1:][hashes[1:] == hashes[:-1]])
    if not len(repeated):
        return
    places: dict[str, list[str]] = {}
    for group in survey.groups:
        for batch in group_batches(group, ["id", "source", "line"]):
            again = np.isin(id_hashes(batch["id"].to_pylist()), repeated)
            for row in batch.filter(pa.array(again)).to_pylist():
                places.setdefault(row["id"], []).append(f"{row['source']}:{row['line']}")
    # Two ids of one hash are no repetition.
    repetitions = {name: rows for name, rows in places.items() if len(rows) > 1}
    if repetitions:
        name, (first, second, *_) = next(iter(repetitions.items()))
        told = repetition(len(repetitions), name, first, second)
        raise InputError(f"{told}: {UNIQUE_IDS}")
