"""One pass over a scored corpus: sums, histograms, and the most suspicious rows.

Only numbers are read here, a batch at a time; memory grows with neither rows nor tokens, but for
the positions of rows that have a duplicate.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from eval.report.corpus.model import Repeats, TypeScores
from eval.report.corpus.tally import Histogram, Tally
from nlirg.weighting.zones import ZONES
from pipelines.ray_data import parquet_files

BATCH_ROWS = 4096
# Column -> label, unit, and width of the finest bin.
COUNTED = {
    "mean_loss": ("Mean loss", "nats", 0.01),
    "mean_entropy": ("Mean entropy", "nats", 0.01),
    "similarity": ("Similarity of loss and entropy", "", 0.01),
    "anomaly": ("Anomaly", "", 0.01),
    "n_trained": ("Trained tokens", "", 1),
    "n_tokens": ("Tokens of the whole row", "", 1),
}
COLUMNS = [
    *COUNTED,
    *(f"zone_{zone}" for zone in ZONES),
    "position",
    "task_type",
    "band",
    "truncated",
    "n_spans",
]
TOP = np.dtype([("anomaly", np.float64), ("position", np.int64), ("group", np.int32)])


@dataclass
class Survey:
    """What one pass over the scores finds.

    Attributes:
        groups: the row groups of the corpus: file, and number of the group in it.
        all: sums over all rows.
        types: task type -> sums.
        zones: zone -> trained tokens in it.
        truncated: rows cut at the context length.
        flagged: rows with a flagged span.
        tallies: column -> counts of its values.
        top: the most suspicious rows, the first of them first; `group` indexes `groups`.
    """

    groups: list[tuple[str, int]]
    all: TypeScores = field(default_factory=TypeScores)
    types: dict[str, TypeScores] = field(default_factory=dict)
    zones: dict[str, float] = field(default_factory=lambda: dict.fromkeys(ZONES, 0.0))
    truncated: int = 0
    flagged: int = 0
    tallies: dict[str, Tally] = field(
        default_factory=lambda: {name: Tally(width) for name, (_, _, width) in COUNTED.items()}
    )
    top: np.ndarray = field(default_factory=lambda: np.empty(0, TOP))

    def zone_shares(self) -> dict[str, float]:
        """Zone -> share of the trained tokens."""
        return {zone: tokens / max(1, self.all.tokens) for zone, tokens in self.zones.items()}

    def histograms(self) -> list[Histogram]:
        """One per counted column."""
        return [
            tally.histogram(*COUNTED[name][:2])
            for name, tally in self.tallies.items()
            if tally.total
        ]


class Duplicates:
    """Which rows repeat, from `scores/duplicates/*.parquet`; near groups hold the exact copies."""

    def __init__(self, folder: Path) -> None:
        self.files = parquet_files(folder)
        self.answers, self.rows = (self._positions(of) for of in ("answer", "row"))

    def _positions(self, of: str) -> np.ndarray:
        """Sorted positions of the rows that repeat in this."""
        found = [
            batch.filter(pc.field("of") == of)["position"].to_numpy()
            for batch in _batches(self.files, ["position", "of"])
        ]
        return np.unique(np.concatenate([np.empty(0, np.int64), *found]))

    def repeats(self, positions: np.ndarray) -> dict[int, Repeats]:
        """Sizes of the largest groups that the rows at these positions are in."""
        wanted = pa.array(positions, pa.int64())
        found: dict[int, Repeats] = {}
        for batch in _batches(self.files, ["position", "of", "size"]):
            for row in batch.filter(pc.field("position").isin(wanted)).to_pylist():
                known = found.get(row["position"], Repeats())
                size = max(row["size"], getattr(known, row["of"]))
                found[row["position"]] = known._replace(**{row["of"]: size})
        return found


def survey(folder: Path, duplicates: Duplicates, most: int) -> Survey:
    """Read the numbers of every row in a folder of scores.

    Args:
        folder: holds the Parquet files.
        duplicates: the rows that repeat.
        most: how many of the most suspicious rows to keep.
    """
    groups = [
        (file, number)
        for file in parquet_files(folder)
        for number in range(pq.read_metadata(file).num_row_groups)
    ]
    found = Survey(groups)
    for index, group in enumerate(groups):
        for batch in group_batches(group, COLUMNS):
            _count(found, batch, duplicates)
            _keep_top(found, batch, index, most)
    return found


def group_batches(group: tuple[str, int], columns: Sequence[str]) -> Iterator[pa.Table]:
    """The rows of one row group in tables of at most `BATCH_ROWS`."""
    file, number = group
    with pq.ParquetFile(file) as opened:
        for batch in opened.iter_batches(BATCH_ROWS, row_groups=[number], columns=list(columns)):
            yield pa.Table.from_batches([batch])


def _batches(files: Sequence[str], columns: Sequence[str]) -> Iterator[pa.Table]:
    for file in files:
        for number in range(pq.read_metadata(file).num_row_groups):
            yield from group_batches((file, number), columns)


def _count(found: Survey, batch: pa.Table, duplicates: Duplicates) -> None:
    tokens = batch["n_trained"].to_numpy()
    for name, tally in found.tallies.items():
        tally.add(batch[name].to_numpy())
    for zone in ZONES:
        found.zones[zone] += float(batch[f"zone_{zone}"].to_numpy() @ tokens)
    found.truncated += int(np.sum(batch["truncated"].to_numpy()))
    found.flagged += int(np.sum(batch["n_spans"].to_numpy() > 0))
    position = batch["position"].to_numpy()
    repeated = [np.isin(position, known) for known in (duplicates.answers, duplicates.rows)]
    types = batch["task_type"].to_numpy()
    for name in np.unique(types):
        mine = types == name
        chosen, sums = batch.filter(pa.array(mine)), found.types.setdefault(name, TypeScores())
        for total in (sums, found.all):
            _add(total, chosen)
            total.repeated_answers += int(repeated[0][mine].sum())
            total.repeated_rows += int(repeated[1][mine].sum())


def _add(total: TypeScores, rows: pa.Table) -> None:
    tokens = rows["n_trained"].to_numpy()
    total.rows += rows.num_rows
    total.tokens += int(tokens.sum())
    total.loss += float(rows["mean_loss"].to_numpy() @ tokens)
    for counted in pc.value_counts(rows["band"]).to_pylist():
        total.bands[counted["values"]] = total.bands.get(counted["values"], 0) + counted["counts"]


def _keep_top(found: Survey, batch: pa.Table, group: int, most: int) -> None:
    """Keep the rows with the highest anomaly; of equal ones the earlier in the corpus."""
    rows = np.empty(batch.num_rows, TOP)
    rows["anomaly"] = batch["anomaly"].to_numpy()
    rows["position"], rows["group"] = batch["position"].to_numpy(), group
    rows = np.concatenate([found.top, rows])
    found.top = rows[np.lexsort((rows["position"], -rows["anomaly"]))[:most]]
