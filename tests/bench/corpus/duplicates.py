"""Duplicates: speed and memory by the number of rows, and what is found against all pairs.

    python -m tests.bench.corpus.duplicates [CORPUS.json]

The corpus, a JSON array of Alpaca rows, is what recall and precision are measured on, after some
characters of copies of its answers have been replaced; without one, made-up answers. Everything is
measured in plain processes: what a Ray task does is the same function call.
"""

from __future__ import annotations

import json
import multiprocessing
import random
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table
from scipy.sparse import csr_array, triu

from nlirg.config.corpus import DataConfig
from nlirg.corpus import duplicates
from pipelines.score.duplicates import (
    ROWS_PER_BATCH,
    ROWS_PER_TASK,
    Fingerprint,
    band_edges,
    count_types,
    shared_bands,
    write_groups,
)
from tests.bench.measure import Comparison, user_seconds
from tests.bench.memory import added_peak
from tests.bench.report import ratio_tables

SIZES = (1_000, 10_000, 100_000)
ROWS_PER_FILE = 10_000
EDITS = (0.01, 0.02, 0.03, 0.05, 0.1)
CONVERSATION = ("prompt", "answer", "row")
HAN = [chr(code) for code in range(0x4E00, 0x4E00 + 2000)]


class Cost(NamedTuple):
    """What one size took.

    Attributes:
        rows: number of rows.
        reducing: user CPU seconds of the pass over the rows.
        grouping: user CPU seconds of the tasks after it.
        peak: most bytes that the largest of the tasks added to its process.
    """

    rows: int
    reducing: float
    grouping: float
    peak: int


def synthetic(count: int, first: int) -> pa.Table:
    """Scored rows: 2 % with one answer, 5 % each copies and near copies of other answers."""
    rng = random.Random(first)
    rows = []
    for row_index in range(first, first + count):
        prompt, answer = ("".join(rng.choices(HAN, k=size)) for size in (40, 200))
        chance = rng.random()
        if chance < 0.02:
            answer = "Sorry, I cannot help with that."
        elif rows and chance < 0.12:
            answer = rng.choice(rows)["answer"] + ("!" if chance < 0.07 else "")
        rows.append({"row_index": row_index, "prompt": prompt, "answer": answer})
    said = [{"prompt": row["prompt"], "completion": row["answer"]} for row in rows]
    return pa.table(
        {
            "row_index": [row["row_index"] for row in rows],
            "id": [str(row["row_index"]) for row in rows],
            "source": ["/made.jsonl"] * count,
            "line": [row["row_index"] for row in rows],
            "data": [0] * count,
            "row": [json.dumps(row, ensure_ascii=False) for row in said],
            "task_type": [f"type {row['row_index'] % 5}" for row in rows],
            "n_tokens": [len(row["prompt"] + row["answer"]) for row in rows],
            "n_trained": [len(row["answer"]) for row in rows],
            "language": ["zh"] * count,
        }
    )


def cost(rows: int) -> Cost:
    """Describe a corpus of so many rows, as the stage does."""
    fingerprint = Fingerprint((DataConfig(path="/made.jsonl"),), "sft")
    with tempfile.TemporaryDirectory() as folder:
        pieces, found = Path(folder, "pieces"), Path(folder, "found")
        pieces.mkdir()
        found.mkdir()
        reducing = 0.0
        for first in range(0, rows, ROWS_PER_FILE):
            table = synthetic(min(ROWS_PER_FILE, rows - first), first)
            start = user_seconds()
            parts = [
                fingerprint(table.slice(place, ROWS_PER_BATCH))
                for place in range(0, table.num_rows, ROWS_PER_BATCH)
            ]
            path = pieces / f"{first:09d}.parquet"
            pq.write_table(pa.concat_tables(parts), path, compression="NONE", use_dictionary=False)
            reducing += user_seconds() - start
        del table, parts
        start, parts = user_seconds(), 1 + rows // ROWS_PER_TASK
        peaks = [_peak(count_types, pieces, parts)[1]]
        for of in CONVERSATION:
            shares = [_peak(band_edges, pieces, of, bands) for bands in shared_bands(parts)]
            edges = [forest for forest, _ in shares]
            peaks += [peak for _, peak in shares]
            peaks.append(_peak(write_groups, pieces, of, found, *edges)[1])
        return Cost(rows, reducing, user_seconds() - start, max(peaks))


def _peak(task: Callable[..., Any], *arguments: Any) -> tuple[Any, int]:
    """What a task returns, and the bytes it added to the process at most."""
    result: list[Any] = []
    peak = added_peak(lambda: result.append(task(*arguments)))
    return result[0], peak


def in_process(rows: int) -> Cost:
    """`cost` in a new process, whose memory is not used yet."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(cost, rows).result()


def compare_sizes(sizes: Sequence[int] = SIZES) -> list[Comparison]:
    """Each size's CPU per row over that of the smallest but one.

    The note says what the pass and the tasks after it take of that, and the memory that the
    largest task adds to its process.
    """
    costs = [in_process(rows) for rows in sizes]
    base = costs[min(1, len(costs) - 1)]
    return [
        Comparison.of(
            f"duplicates: CPU per row / CPU per row of {base.rows:,} rows",
            f"{rows:,} rows",
            [(reducing + grouping) / rows / ((base.reducing + base.grouping) / base.rows)],
            goal=1.2 if rows > base.rows else None,
            at_least=False,
            note=f"{rows / (reducing + grouping):,.0f} rows/s: {reducing / rows * 1e6:,.0f} + "
            f"{grouping / rows * 1e6:,.0f} µs a row; largest task {peak / 1e6:,.0f} MB",
        )
        for rows, reducing, grouping, peak in costs
    ]


def jaccard_pairs(texts: Sequence[str]) -> dict[tuple[int, int], float]:
    """Jaccard similarity of every pair that shares a shingle, by the incidence matrix."""
    hashes, offsets = duplicates.shingle_hashes(texts)
    shingle = np.unique(hashes, return_inverse=True)[1]
    rows = csr_array((np.ones(len(hashes), dtype=np.int32), shingle, offsets.astype(np.int64)))
    rows.sum_duplicates()
    rows.data[:] = 1
    sizes = np.diff(rows.indptr)
    shared = triu(rows @ rows.T, k=1).tocoo()
    union = sizes[shared.row] + sizes[shared.col] - shared.data
    pairs = zip(shared.row.tolist(), shared.col.tolist(), strict=True)
    return dict(zip(pairs, (shared.data / union).tolist(), strict=True))


def found_pairs(texts: Sequence[str]) -> set[tuple[int, int]]:
    """Pairs that the bands find."""
    exact = np.array([duplicates.exact_key(text) for text in texts], dtype=np.int64)
    values = duplicates.min_hashes(texts)
    signature = duplicates.signatures(values)
    found = set()
    for keys in duplicates.band_keys(values).T:
        run = duplicates.in_runs(keys, exact)
        found |= set(map(tuple, duplicates.near_edges(keys[run], run, signature[run]).tolist()))
    return found


def accuracy(answers: Sequence[str], seed: int = 0) -> Table:
    """Recall of edited copies by how much was edited, and precision of all pairs found."""
    rng = random.Random(seed)
    texts = list(dict.fromkeys(duplicates.normal_form(text) for text in answers))
    count, letters = len(texts), "".join(texts)
    title = f"{count:,} different texts and edited copies, all pairs; near is {duplicates.NEAR}"
    table = Table("edited", "similar", "found of them", "not similar, yet found", title=title)
    for share in EDITS:
        copies = [
            "".join(rng.choice(letters) if rng.random() < share else c for c in text)
            for text in texts
        ]
        both = list(dict.fromkeys([*texts, *copies]))
        pairs = jaccard_pairs(both)
        near = {pair for pair, value in pairs.items() if value >= duplicates.NEAR}
        found = found_pairs(both)
        wrong = [pairs.get(pair, 0.0) for pair in found - near]
        table.add_row(
            f"{share:.0%} of the characters",
            f"{len(near):,}",
            f"{len(found & near) / max(len(near), 1):.1%}",
            f"{len(wrong) / max(len(found), 1):.1%}, least similarity {min(wrong, default=1):.2f}",
        )
    return table


def main() -> None:
    """Measure and print."""
    if len(sys.argv) > 1:
        rows = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
        answers = [row["output"] for row in rows]
    else:
        rng = random.Random(0)
        answers = ["".join(rng.choices(HAN, k=rng.randint(20, 400))) for _ in range(1000)]
    console = Console()
    console.print(accuracy(answers))
    for table in ratio_tables(compare_sizes()):
        console.print(table)


if __name__ == "__main__":
    main()
