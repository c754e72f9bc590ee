"""What training reads through the plan equals the samples put together row by row."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest
import torch

from cluster.rundir import RunDirectory
from nlirg.corpus.arrangement.packing import best_fit, piece_lengths
from nlirg.forward.batching import EncodedCorpus, TokenBatch, WindowReader, token_batch
from nlirg.forward.windows import SlotWindow, WindowRule
from nlirg.labels import IGNORE
from nlirg.training.validation import held_out_ids
from pipelines.encode.plan import Apart, GroupRows, PlanRows, group_starts, pack_group
from pipelines.ray_data import parquet_files
from pipelines.row_table import write_row_table
from pipelines.train.encoded import read_encoded
from tests.pipelines.made_scores import write_tokens

ROWS, PACK = 40, 16


def scored(documents: bool) -> list[dict[str, Any]]:
    """Scored rows; of documents the first token of every segment is not trained.

    A conversation is one training sample, or up to three, one after the other.
    """
    rng = np.random.default_rng(0)
    rows = []
    for number in range(ROWS):
        ids = rng.integers(3, 300, rng.integers(6, 50)).tolist()
        parts = np.diff([0, *sorted(rng.choice(range(2, len(ids) - 1, 2), number % 3)), len(ids)])
        segments = piece_lengths(len(ids), PACK) if documents else [int(n) for n in parts if n]
        labels = list(ids)
        for start, length in zip(np.cumsum([0, *segments[:-1]]), segments, strict=True):
            untrained = 1 if documents else int(rng.integers(1, length))
            labels[start : start + untrained] = [IGNORE] * untrained
        starts = np.cumsum([0, *segments])
        counts = [
            sum(label != IGNORE for label in labels[start:stop])
            for start, stop in itertools.pairwise(starts)
        ]
        n_trained = sum(counts)
        losses = rng.exponential(2.0, n_trained).astype(np.float32).tolist()
        rows.append(
            {
                "id": f"r{number}",
                "row_index": (number // 25 << 32) + number % 25,
                "task_type": "abc"[number % 3],
                "data": 0,
                "n_tokens": len(ids),
                "n_trained": n_trained,
                "sample_tokens": segments,
                "sample_trained": counts,
                "input_ids": ids,
                "labels": labels,
                "segments": segments,
                "token_loss": losses,
                "token_entropy": losses,
            }
        )
    return rows


def written(folder: Path, rows: list[dict[str, Any]]) -> RunDirectory:
    """A run whose scores and tokens lie in several files, the rows shuffled among them."""
    run = RunDirectory(str(folder), "run")
    run.scores.path.mkdir(parents=True)
    order = np.random.default_rng(1).permutation(len(rows))
    columns = ["id", "row_index", "task_type", "data", "n_tokens"]
    columns += ["sample_tokens", "sample_trained"]
    for number, part in enumerate(np.array_split(order, 3)):
        mine = [rows[index] for index in part]
        pq.write_table(
            pa.Table.from_pylist(mine).select(columns), run.scores.path / f"{number}.parquet"
        )
        write_tokens(run.scores.path / "tokens", f"{number}.arrow", mine)
    run.encoded.path.mkdir()
    return run


def samples_of(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A scored row as training samples."""
    tokens, losses = np.cumsum([0, *row["segments"]]), np.cumsum([0, *row["sample_trained"]])
    for (start, stop), (first, last) in zip(
        itertools.pairwise(tokens), itertools.pairwise(losses), strict=True
    ):
        yield {
            "id": row["id"],
            "task_type": row["task_type"],
            "n_trained": last - first,
            "input_ids": row["input_ids"][start:stop],
            "labels": row["labels"][start:stop],
            "segments": [stop - start],
            "base_loss": row["token_loss"][first:last],
        }


def packs(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Documents packed by cutting and joining their tokens themselves."""
    pieces = []
    for row in rows:
        losses = iter(row["token_loss"])
        by_token = [None if label == IGNORE else next(losses) for label in row["labels"]]
        stops = np.cumsum(row["segments"]).tolist()
        for start, stop in zip([0, *stops[:-1]], stops, strict=True):
            part = {name: row[name][start:stop] for name in ("input_ids", "labels")}
            loss = [value for value in by_token[start:stop] if value is not None]
            pieces.append({**part, "base_loss": loss, "task_type": row["task_type"]})
    for members in best_fit([len(piece["input_ids"]) for piece in pieces], PACK):
        mine = [pieces[index] for index in members]
        types = {piece["task_type"] for piece in mine}
        joined = {
            name: [value for piece in mine for value in piece[name]]
            for name in ("input_ids", "labels", "base_loss")
        }
        yield {
            **joined,
            "task_type": types.pop() if len(types) == 1 else "",
            "n_trained": len(joined["base_loss"]),
            "segments": [len(piece["input_ids"]) for piece in mine],
        }


def in_memory(samples: list[dict[str, Any]]) -> EncodedCorpus:
    types = sorted({row["task_type"] for row in samples})
    return EncodedCorpus(
        samples,
        np.array([row["n_trained"] for row in samples]),
        tuple(types),
        np.array([types.index(row["task_type"]) for row in samples]),
    )


def batches(corpus: EncodedCorpus) -> Iterator[tuple[TokenBatch, list[str]]]:
    """Every window of every sample, two samples side by side, and the task types in the batch."""
    rule = WindowRule(4)
    reader = WindowReader(corpus, rule)
    for first in range(0, len(corpus) - 1, 2):
        counts = [len(rule.windows(corpus.sample(first + slot).labels)) for slot in (0, 1)]
        for step in range(max(counts)):
            rows = [
                reader.row(SlotWindow(slot, first + slot, step), step, 2)
                for slot in (0, 1)
                if step < counts[slot]
            ]
            batch = token_batch(rows)
            yield batch, [corpus.task_types[task] for task in batch.tasks.tolist()]


def assert_same(corpus: EncodedCorpus, samples: list[dict[str, Any]]) -> None:
    expected = in_memory(samples)
    assert corpus.n_trained.tolist() == expected.n_trained.tolist()
    assert corpus.holds_packs() == expected.holds_packs()
    count = 0
    for (batch, types), (wanted, wanted_types) in zip(
        batches(corpus), batches(expected), strict=True
    ):
        assert types == wanted_types
        for name, value in vars(wanted).items():
            if name == "tasks":
                continue  # numbered anew by each corpus; their names are compared
            found = getattr(batch, name)
            same = torch.equal(found, value) if isinstance(value, torch.Tensor) else found == value
            assert same, name
            if isinstance(value, torch.Tensor):
                assert found.dtype == value.dtype
        count += 1
    assert count > len(samples)


def ranked_index(folder: Path, rows: list[dict[str, Any]]) -> tuple[Path, list[dict[str, Any]]]:
    """An index of 30 of the rows in another order, and these rows in it."""
    chosen = [rows[index] for index in np.random.default_rng(2).permutation(ROWS)[:30]]
    row_index = [row["row_index"] for row in chosen]
    write_row_table(
        folder / "index.arrow", pa.table({"row_index": row_index, "rank": range(len(chosen))})
    )
    return folder / "index.arrow", chosen


@pytest.mark.parametrize("selected", [False, True])
def test_conversations_train_in_the_batches_of_their_rows(tmp_path: Path, selected: bool) -> None:
    rows = scored(documents=False)
    run = written(tmp_path, rows)
    index = None
    if selected:
        index, rows = ranked_index(tmp_path, rows)
    held = frozenset({"r3", "r7"})
    alike = np.sort([row["row_index"] for row in rows[:4]])
    for number, file in enumerate(sorted(run.scores.path.glob("*.parquet"))):
        plan = PlanRows(index, held, Apart(alike, (0, 1)))(pq.read_table(file))
        pq.write_table(plan, run.encoded.path / f"{number}.parquet")
    samples = [one for row in rows if row["id"] not in held for one in samples_of(row)]
    assert len(samples) > len(rows), "some rows are several samples"
    (corpus,) = read_encoded(run.encoded.path, run.scores.path / "tokens")
    assert_same(corpus, samples)
    twins = {row["id"] for row in rows[:4]}
    alone = [row["id"] not in twins for row in samples]
    out = held_out_ids([row["id"] for row in samples], alone, 5)
    assert not out & twins
    trained, kept = read_encoded(run.encoded.path, run.scores.path / "tokens", 5)
    assert_same(trained, [row for row in samples if row["id"] not in out])
    assert_same(kept, [row for row in samples if row["id"] in out])
    assert trained.task_types == kept.task_types


@pytest.mark.parametrize("selected", [False, True])
def test_documents_train_in_the_batches_of_their_packs(tmp_path: Path, selected: bool) -> None:
    rows = scored(documents=True)
    run = written(tmp_path, rows)
    index = None
    if selected:
        index, rows = ranked_index(tmp_path, rows)
    starts, documents = group_starts(run.scores.path, index, 12, 1 << 20)
    assert documents == len(rows)
    tables = [
        GroupRows(index, starts, Apart(np.empty(0, np.int64), (0, 1)))(pq.read_table(file))
        for file in sorted(run.scores.path.glob("*.parquet"))
    ]
    groups = pa.concat_tables(tables)
    for number in reversed(range(starts.num_rows)):
        plan = pack_group(PACK, groups.filter(pc.field("group") == number))
        pq.write_table(plan, run.encoded.path / f"{9 - number}.parquet")
    samples = [
        pack for start in range(0, len(rows), 12) for pack in packs(rows[start : start + 12])
    ]
    (corpus,) = read_encoded(run.encoded.path, run.scores.path / "tokens")
    assert_same(corpus, samples)
    assert corpus.holds_packs()


def test_a_pack_holds_documents_of_one_source(tmp_path: Path) -> None:
    rows = scored(documents=True)
    for number, row in enumerate(rows):
        row["data"] = int(number % 3 == 0)
    run = written(tmp_path, rows)
    alike = np.array([rows[4]["row_index"]])
    starts, _ = group_starts(run.scores.path, None, 7, 1 << 20)
    groups = GroupRows(None, starts, Apart(alike, (0, 1)))(
        pads.dataset(parquet_files(run.scores.path)).to_table()
    )
    sources = {row["row_index"]: row["data"] for row in rows}
    seen = []
    for number in range(starts.num_rows):
        for pack in pack_group(PACK, groups.filter(pc.field("group") == number)).to_pylist():
            members = [piece["row_index"] for piece in pack["pieces"]]
            assert {sources[member] for member in members} == {pack["data"]}
            assert pack["alone"] == (rows[4]["row_index"] not in members)
            seen += members
    assert set(seen) == set(sources)
