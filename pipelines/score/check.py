"""Verifying and summing up a folder of scores, one file in memory at a time."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nlirg.errors import InputError
from nlirg.weighting.zones import ZONES
from pipelines.score.ledger import BadRows, ShardRows, shards_of_positions

REASONS = 3  # that an error or a summary names

ZONE_COLUMNS = [f"zone_{zone}" for zone in ZONES]
COLUMNS = ["id", "position", "band", "truncated", "n_trained", "mean_loss", *ZONE_COLUMNS]


@dataclass
class Totals:
    """What the scores sum up to.

    Attributes:
        rows: shard -> its scored rows.
        bands: band -> rows.
        truncated: rows cut at the limit.
        tokens: trained tokens.
        loss: sum of their losses, nats.
        zones: how many of them lie in each zone of `ZONES`.
        hashes: 64-bit hashes of the ids, one array a file.
    """

    rows: Counter[int] = field(default_factory=Counter)
    bands: Counter[str] = field(default_factory=Counter)
    truncated: int = 0
    tokens: int = 0
    loss: float = 0.0
    zones: np.ndarray = field(default_factory=lambda: np.zeros(len(ZONES)))
    hashes: list[np.ndarray] = field(default_factory=list)

    def add(self, table: pa.Table) -> None:
        """Add the rows of one file."""
        tokens = table["n_trained"].to_numpy()
        shards, counts = np.unique(
            shards_of_positions(table["position"].to_numpy()), return_counts=True
        )
        self.rows.update(dict(zip(shards.tolist(), counts.tolist(), strict=True)))
        self.bands.update(table["band"].to_pylist())
        self.truncated += int(np.sum(table["truncated"].to_numpy()))
        self.tokens += int(tokens.sum())
        self.loss += float(table["mean_loss"].to_numpy() @ tokens)
        self.zones += [table[name].to_numpy() @ tokens for name in ZONE_COLUMNS]
        self.hashes.append(id_hashes(table["id"].to_pylist()))

    def summary(self) -> dict[str, Any]:
        """The part of the stage's summary that comes from the scores."""
        return {
            "rows": self.rows.total(),
            "truncated": self.truncated,
            "bands": dict(self.bands.most_common()),
            "zones": dict(zip(ZONES, (self.zones / self.tokens).tolist(), strict=True)),
            "mean_loss": self.loss / self.tokens,
            "tokens": self.tokens,
        }


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
    if not usable:
        aside = count + bad.overlong.total()
        why = why or next(iter(bad.overlong), "the files hold no rows")
        raise InputError(
            f"no usable row in the corpus ({aside} quarantined; most often: {why}); "
            f"see {quarantine}"
        )
    if count > (limit if limit >= 1 else limit * rows):
        raise InputError(
            f"{count} of {rows} rows cannot be used, more than score.max_bad_rows ({limit:g}) "
            f"allows: {why}; see {quarantine}; mend the corpus, or raise max_bad_rows: what is "
            "scored is kept"
        )


def verified_totals(files: Sequence[str], shards: Mapping[int, ShardRows]) -> Totals:
    """Sum up the scores, once every usable row is known to be there, once.

    The ids of a million rows take 16 MB.

    Args:
        files: paths of the scores.
        shards: shard -> the rows it gives.

    Raises:
        InputError: if ids repeat, naming one and two places of it; or if the files hold fewer
            rows of a shard than it gives, or more.
    """
    totals = Totals()
    for path in files:
        totals.add(_read(path, COLUMNS))
    _check_ids(files, np.concatenate([np.empty(0, np.uint64), *totals.hashes]))
    for shard, rows in shards.items():
        if (scored := totals.rows[shard]) != rows.usable:
            raise InputError(
                f"part {shard} of the corpus has {rows.usable} usable rows, and {scored} of it "
                "are scored: run the same command again, it scores what is missing"
            )
    return totals


def id_hashes(names: Iterable[str]) -> np.ndarray:
    """64-bit hashes [n] of ids."""
    digests = (hashlib.blake2b(name.encode(), digest_size=8).digest() for name in names)
    return np.frombuffer(b"".join(digests), np.uint64)


def _check_ids(files: Sequence[str], hashes: np.ndarray) -> None:
    """Refuse ids that stand on more than one row."""
    hashes.sort()
    repeated = np.unique(hashes[1:][hashes[1:] == hashes[:-1]])
    if not len(repeated):
        return
    places: dict[str, list[str]] = {}
    for path in files:
        table = _read(path, ["id", "source", "line"])
        found = np.isin(id_hashes(table["id"].to_pylist()), repeated)
        for row in table.filter(pa.array(found)).to_pylist():
            places.setdefault(row["id"], []).append(f"{row['source']}:{row['line']}")
    # Two ids of one hash are no repetition.
    repetitions = {name: found for name, found in places.items() if len(found) > 1}
    if repetitions:
        name, (first, second, *_) = next(iter(repetitions.items()))
        raise InputError(
            f"{len(repetitions)} ids stand on more than one row, e.g. {name!r} at {first} and "
            f"{second}: ids must be unique (or absent: then they are made from the content)"
        )


def _read(path: str, columns: list[str]) -> pa.Table:
    return pq.ParquetFile(path).read(columns=columns)
