"""One pass over a scored corpus: sums, histograms, the most suspicious rows, and what to verify.

A batch of rows is in memory at a time; what is kept of every row is the hash of its id, 8 bytes.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from eval.report.corpus.histogram import Histogram, HistogramCounts
from eval.report.corpus.model import Repeats, TypeScores
from nlirg.config.score_columns import SCORE_COLUMNS
from nlirg.weighting.zones import ZONES
from pipelines.ray_data import parquet_files
from pipelines.score.ledger import shards_of_rows

BATCH_ROWS = 4096
LISTED = 10_000  # most suspicious rows that are kept
CHARTS = {column.name: column.chart for column in SCORE_COLUMNS if column.chart is not None}
ZONE_COLUMNS = [f"zone_{zone}" for zone in ZONES]
COLUMNS = [
    *CHARTS,
    *ZONE_COLUMNS,
    "id",
    "row_index",
    "task_type",
    "band",
    "truncated",
    "n_spans",
    "notes",
    "sample_tokens",
]
TOP = np.dtype([("anomaly", np.float64), ("row_index", np.int64), ("group", np.int32)])

Group = tuple[str, int]  # a file of scores, and the number of a row group in it


@dataclass
class Survey:
    """What one pass over the scores gives.

    Attributes:
        groups: the row groups of the corpus.
        all: sums over all rows.
        types: task type -> sums.
        zones: trained tokens in each zone of `ZONES`.
        samples: training samples of all rows; of plain text, pieces.
        notes: what the chat template does not know -> rows that have it.
        truncated: rows cut at the context length.
        flagged: rows with a flagged span.
        histograms: column -> counts of its values.
        top: the most suspicious rows, the first of them first; `group` indexes `groups`.
        shards: shard of the corpus -> its scored rows.
        id_hashes: 64-bit hashes of the ids, an array a batch.
    """

    groups: list[Group]
    all: TypeScores = field(default_factory=TypeScores)
    types: dict[str, TypeScores] = field(default_factory=dict)
    zones: np.ndarray = field(default_factory=lambda: np.zeros(len(ZONES)))
    samples: int = 0
    notes: Counter[str] = field(default_factory=Counter)
    truncated: int = 0
    flagged: int = 0
    histograms: dict[str, HistogramCounts] = field(
        default_factory=lambda: {
            name: HistogramCounts(chart.bin_width) for name, chart in CHARTS.items()
        }
    )
    top: np.ndarray = field(default_factory=lambda: np.empty(0, TOP))
    shards: Counter[int] = field(default_factory=Counter)
    id_hashes: list[np.ndarray] = field(default_factory=list)

    def zone_shares(self) -> dict[str, float]:
        """Zone -> share of the trained tokens."""
        shares = self.zones / max(1, self.all.tokens)
        return dict(zip(ZONES, shares.tolist(), strict=True))

    def drawn(self) -> list[Histogram]:
        """A histogram of every charted score that has values."""
        return [
            counts.histogram(CHARTS[name].label, CHARTS[name].unit)
            for name, counts in self.histograms.items()
            if counts.total
        ]

    def summary(self) -> dict[str, Any]:
        """The part of the stage's summary that comes from the scores."""
        return {
            "rows": self.all.rows,
            "samples": self.samples,
            "notes": dict(self.notes.most_common()),
            "truncated": self.truncated,
            "bands": dict(Counter(self.all.bands).most_common()),
            "zones": self.zone_shares(),
            "mean_loss": self.all.mean_loss,
            "tokens": self.all.tokens,
        }


def survey(files: Sequence[str], most: int = LISTED) -> Survey:
    """Read every row of the scores once.

    Args:
        files: paths of the scores.
        most: how many of the most suspicious rows to keep.
    """
    groups = [(file, n) for file in files for n in range(pq.read_metadata(file).num_row_groups)]
    total = Survey(groups)
    for index, group in enumerate(groups):
        for batch in group_batches(group, COLUMNS):
            _count(total, batch)
            _keep_top(total, batch, index, most)
    return total


def group_batches(group: Group, columns: Sequence[str]) -> Iterator[pa.Table]:
    """The rows of one row group in tables of at most `BATCH_ROWS`."""
    file, number = group
    with pq.ParquetFile(file) as opened:
        for batch in opened.iter_batches(BATCH_ROWS, row_groups=[number], columns=list(columns)):
            yield pa.Table.from_batches([batch])


def id_hashes(names: Iterable[str]) -> np.ndarray:
    """64-bit hashes [n] of ids."""
    digests = (hashlib.blake2b(name.encode(), digest_size=8).digest() for name in names)
    return np.frombuffer(b"".join(digests), np.uint64)


def _count(total: Survey, batch: pa.Table) -> None:
    tokens = batch["n_trained"].to_numpy()
    for name, counts in total.histograms.items():
        counts.add(batch[name].to_numpy())
    total.zones += [batch[name].to_numpy() @ tokens for name in ZONE_COLUMNS]
    total.truncated += int(np.sum(batch["truncated"].to_numpy()))
    total.samples += pc.sum(pc.list_value_length(batch["sample_tokens"])).as_py()
    total.notes.update(pc.list_flatten(batch["notes"]).to_pylist())
    total.flagged += int(np.sum(batch["n_spans"].to_numpy() > 0))
    shards = shards_of_rows(batch["row_index"].to_numpy())
    total.shards.update(dict(zip(*map(np.ndarray.tolist, np.unique_counts(shards)), strict=True)))
    total.id_hashes.append(id_hashes(batch["id"].to_pylist()))
    _add(total.all, batch)
    types = batch["task_type"].to_numpy()
    for name in np.unique(types):
        chosen = batch.filter(pa.array(types == name))
        _add(total.types.setdefault(name, TypeScores()), chosen)


def _add(total: TypeScores, rows: pa.Table) -> None:
    tokens = rows["n_trained"].to_numpy()
    total.rows += rows.num_rows
    total.tokens += int(tokens.sum())
    total.loss += float(rows["mean_loss"].to_numpy() @ tokens)
    for counted in pc.value_counts(rows["band"]).to_pylist():
        total.bands[counted["values"]] = total.bands.get(counted["values"], 0) + counted["counts"]


def _keep_top(total: Survey, batch: pa.Table, group: int, most: int) -> None:
    """Keep the rows with the highest anomaly; of equal ones the earlier in the corpus."""
    rows = np.empty(batch.num_rows, TOP)
    rows["anomaly"] = batch["anomaly"].to_numpy()
    rows["row_index"], rows["group"] = batch["row_index"].to_numpy(), group
    rows = np.concatenate([total.top, rows])
    total.top = rows[np.lexsort((rows["row_index"], -rows["anomaly"]))[:most]]


class Duplicates:
    """Which rows repeat, from `scores/duplicates/*.parquet`; near groups hold the exact copies."""

    def __init__(self, folder: Path) -> None:
        self.files = parquet_files(folder)

    def count_in(self, total: Survey) -> None:
        """Add the numbers of rows that repeat to the sums of a survey."""
        answers, rows = self._rows_by_type("answer"), self._rows_by_type("row")
        for name, sums in total.types.items():
            sums.repeated_answers, sums.repeated_rows = answers[name], rows[name]
        total.all.repeated_answers, total.all.repeated_rows = answers.total(), rows.total()

    def _rows_by_type(self, of: str) -> Counter[str]:
        """Task type -> rows of it that repeat in this."""
        columns = ["row_index", "task_type"]
        chosen = [
            batch.filter(pc.field("of") == of).select(columns)
            for batch in self._batches([*columns, "of"])
        ]
        if not chosen:
            return Counter()
        rows = pa.concat_tables(chosen).group_by(columns).aggregate([])
        counts = pc.value_counts(rows["task_type"]).to_pylist()
        return Counter({count["values"]: count["counts"] for count in counts})

    def repeats(self, row_index: np.ndarray) -> dict[int, Repeats]:
        """Sizes of the largest groups that these rows are in, by row index."""
        wanted = pa.array(row_index, pa.int64())
        largest: dict[int, Repeats] = {}
        for batch in self._batches(["row_index", "of", "size"]):
            for row in batch.filter(pc.field("row_index").isin(wanted)).to_pylist():
                known = largest.get(row["row_index"], Repeats())
                size = max(row["size"], getattr(known, row["of"]))
                largest[row["row_index"]] = known._replace(**{row["of"]: size})
        return largest

    def _batches(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        for file in self.files:
            for number in range(pq.read_metadata(file).num_row_groups):
                yield from group_batches((file, number), columns)
