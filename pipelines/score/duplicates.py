"""Duplicates and repetition of a scored corpus: one Ray Data pass, then a few Ray tasks.

The pass reduces every row to keys and signatures in `.profile/`; the tasks read columns of them,
a few numbers per row, so neither driver nor workers ever hold the corpus.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.parquet as pq

from cluster.rundir import StageFolder
from cluster.session import connect
from eval.metrics.diversity import opening
from eval.text import join_units, units
from nlirg.atomic_io import atomic_path, write_text
from nlirg.config.corpus import DataConfig
from nlirg.corpus import duplicates
from nlirg.corpus.profile import (
    COUNTED,
    PHRASES,
    CorpusProfile,
    DuplicateCount,
    Kind,
    Of,
    TypeProfile,
    add_counts,
    count_values,
    describe_types,
    repeated,
)
from nlirg.corpus.records import Document, Record
from nlirg.corpus.rows import STORED, stored_record
from nlirg.corpus.sources import Task
from nlirg.errors import InputError
from pipelines.progress import Progress, say
from pipelines.ray_data import configure, parquet_files, read_columns, root_cause, watch_parquet
from pipelines.recipe import Recipe

ROWS_PER_BATCH = 1024
ROWS_PER_TASK = 200_000  # larger corpora are examined in parts, to bound a task's memory
RESULT = "profile.json"
EXCERPT = 160  # characters of a text that are shown
OPENING = 200  # characters in which its first words are looked for
NEEDED = (*STORED, "row_index", "task_type", "n_tokens", "n_trained", "language")
SCHEMA = pa.schema(
    {
        "row_index": pa.int64(),
        "task_type": pa.string(),
        "of": pa.string(),
        "kind": pa.string(),
        "group": pa.int64(),
        "size": pa.int64(),
    }
)


class Compared(NamedTuple):
    """One text of a row: what must be equal, what must be alike (a normal form), what is shown."""

    exact: str
    near: str
    shown: str


def compared_turns(messages: list[dict[str, Any]]) -> dict[Of, Compared]:
    """What of a conversation is compared with other conversations.

    The answer is the last turn, the prompt what stands before it. A system turn belongs to the
    equality of prompts, but not to their likeness: a long one that all rows share would make any
    two questions alike.
    """
    texts = [_turn_text(message) for message in messages]
    said = [
        (message["role"], duplicates.normal_form(text))
        for message, text in zip(messages, texts, strict=True)
    ]
    exact = "\n".join(f"{role}: {text}" for role, text in said[:-1])
    near = "\n".join(text for role, text in said[:-1] if role != "system")
    answer = said[-1][1]
    asked = next(text for text, (role, _) in zip(texts, said, strict=True) if role != "system")
    return {
        "prompt": Compared(exact, near, _excerpt(asked)),
        "answer": Compared(answer, answer, _excerpt(texts[-1])),
        "row": Compared(f"{exact}\n{answer}", f"{near}\n{answer}", _excerpt(asked)),
    }


def compared(record: Record | Document) -> dict[Of, Compared]:
    """What of a record is compared with other records."""
    if isinstance(record, Document):
        return compared_text(record.text)
    return compared_turns(record.messages)


def compared_text(text: str) -> dict[Of, Compared]:
    """What of a document is compared with other documents: all of it."""
    normal = duplicates.normal_form(text)
    return {"row": Compared(normal, normal, _excerpt(text))}


def _turn_text(message: dict[str, Any]) -> str:
    """What a turn says, its reasoning first, function calls as JSON without their ids."""
    calls = [call["function"] for call in message.get("tool_calls", ())]
    called = json.dumps(calls, ensure_ascii=False, sort_keys=True) if calls else ""
    reasoning = message.get("reasoning", "")
    return "\n".join(part for part in (reasoning, message["content"], called) if part)


def _excerpt(text: str) -> str:
    return text if len(text) <= EXCERPT else f"{text[:EXCERPT]}…"


class Fingerprint:
    """Reduce scored rows to what duplicates and repetition are found by."""

    def __init__(self, data: Sequence[DataConfig], task: Task) -> None:
        os.environ.setdefault("RAYON_NUM_THREADS", "1")  # Ray gives a task one CPU
        self.data, self.task = data, task

    def __call__(self, batch: pa.Table) -> pa.Table:
        """One row for each: key, signature and band keys of each text, lengths, language."""
        rows = batch.select(list(STORED)).to_pylist()
        texts = [compared(stored_record(row, self.data, self.task)) for row in rows]
        begun = [_opening(row["answer"].shown) if "answer" in row else None for row in texts]
        columns = {
            **{name: batch[name] for name in ("row_index", "task_type", "language")},
            "prompt_tokens": pc.subtract(batch["n_tokens"], batch["n_trained"]),
            "answer_tokens": batch["n_trained"],
            "opening": pa.array(
                [text and duplicates.exact_key(text) for text in begun], pa.int64()
            ),
            "opening_shown": pa.array(begun, pa.string()),
            "answer": pa.nulls(len(texts), pa.int64()),
            "answer_shown": pa.nulls(len(texts), pa.string()),
        }
        for of in texts[0]:
            columns |= _fingerprints(of, [row[of] for row in texts])
        return pa.table(columns)


def _opening(text: str) -> str | None:
    """The first words of an answer, as the evaluation counts them; None without words."""
    return join_units(opening(units(text[:OPENING]))) or None


def _keys(texts: Sequence[str | None]) -> pa.Array:
    return pa.array(
        [None if text is None else duplicates.exact_key(text) for text in texts], pa.int64()
    )


def _fingerprints(of: Of, texts: Sequence[Compared]) -> dict[str, pa.Array]:
    """Columns of one text of every row."""
    values = duplicates.min_hashes([text.near for text in texts])
    signature = pa.py_buffer(duplicates.signatures(values).tobytes())
    width = pa.binary(duplicates.VALUES)
    return {
        of: _keys([text.exact for text in texts]),
        f"{of}_shown": pa.array([text.shown for text in texts], pa.string()),
        f"{of}_signature": pa.Array.from_buffers(width, len(texts), [None, signature]),
        **{
            f"{of}_band{number}": pa.array(keys)
            for number, keys in enumerate(duplicates.band_keys(values).T)
        },
    }


def find_duplicates(stage: StageFolder, recipe: Recipe) -> CorpusProfile:
    """Describe a scored corpus: `scores/duplicates/*.parquet` and `scores/profile.json`.

    Args:
        stage: the scores, complete but for its marker.
        recipe: says what the rows mean, and which cluster to work on.

    Raises:
        InputError: if there are no scored rows, or columns are missing.
    """
    files = parquet_files(stage.path)
    rows = _checked(stage, files)
    pieces, groups, result = (stage.path / name for name in (".profile", "duplicates", RESULT))
    for folder in (pieces, groups):  # of an earlier run that crashed
        shutil.rmtree(folder, ignore_errors=True)
    result.unlink(missing_ok=True)
    connect(recipe.cluster)
    _write_pieces(files, pieces, recipe)
    profile = _examine(pieces, groups, recipe.encode.task, rows)
    write_text(result, profile.model_dump_json(indent=2) + "\n")
    shutil.rmtree(pieces)
    say("profile", _told(profile))
    return profile


def _checked(stage: StageFolder, files: Sequence[str]) -> int:
    """How many rows there are."""
    rows = 0
    for file in files:
        try:
            metadata = pq.read_metadata(file)
        except (OSError, pa.ArrowInvalid) as error:
            raise InputError(f"{file} is no whole Parquet file: delete it, score again") from error
        names = metadata.schema.to_arrow_schema().names
        if missing := [name for name in NEEDED if name not in names]:
            raise InputError(f"{file} has no column {', '.join(missing)}: score the corpus again")
        rows += metadata.num_rows
    if not rows:
        raise InputError(f"{stage.path} holds no scored rows: score the corpus first")
    return rows


def _write_pieces(files: Sequence[str], pieces: Path, recipe: Recipe) -> None:
    """The pass over the corpus."""
    configure(recipe.cluster.stall_timeout_s)
    rows = read_columns(files, list(NEEDED)).map_batches(
        Fingerprint(recipe.data, recipe.encode.task),
        batch_size=ROWS_PER_BATCH,
        batch_format="pyarrow",
    )
    pieces.mkdir()
    with watch_parquet("profile", pieces), root_cause():
        rows.write_parquet(str(pieces), compression="NONE", use_dictionary=False)


def _examine(pieces: Path, found: Path, task: Task, rows: int) -> CorpusProfile:
    """Run the tasks over the pieces; the driver sees only their short results."""
    import ray

    edges: Any = ray.remote(band_edges)
    groups: Any = ray.remote(write_groups)
    compared: tuple[Of, ...] = ("prompt", "answer", "row") if task == "sft" else ("row",)
    parts = 1 + rows // ROWS_PER_TASK
    shares = shared_bands(parts)
    found.mkdir()
    described = ray.remote(count_types).remote(pieces, parts)
    counted = [
        groups.remote(pieces, of, found, *(edges.remote(pieces, of, bands) for bands in shares))
        for of in compared
    ]
    waiting = tasks = [described, *counted]
    with Progress("duplicates", total=len(tasks), unit="part") as progress:
        while waiting:
            _, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=1.0)
            progress.to(len(tasks) - len(waiting))
    every, by_type = ray.get(described)
    counts = [count for counts in ray.get(counted) for count in counts]
    return CorpusProfile(all=every, types=by_type, duplicates=counts)


def shared_bands(parts: int) -> list[np.ndarray]:
    """Which bands each of the tasks takes."""
    return np.array_split(np.arange(duplicates.BANDS), min(parts, duplicates.BANDS))


def band_edges(pieces: Path, of: Of, bands: np.ndarray) -> np.ndarray:
    """Task: near duplicates that some of the bands find, as a forest of row_indices."""
    keys = [f"{of}_band{number}" for number in bands]
    rows = _columns(pieces, ["row_index", of, *keys])
    runs = [duplicates.in_runs(rows[key], rows[of]) for key in keys]
    wanted = np.unique(np.concatenate(runs))
    signature = _signatures(pieces, of, rows["row_index"][wanted])
    found = [
        duplicates.near_edges(
            rows[key][run], rows["row_index"][run], signature[np.searchsorted(wanted, run)]
        )
        for key, run in zip(keys, runs, strict=True)
    ]
    return duplicates.forest(np.concatenate(found))


def write_groups(pieces: Path, of: Of, folder: Path, *edges: np.ndarray) -> list[DuplicateCount]:
    """Task: write the groups of exact and of near duplicates, and count them."""
    rows = _columns(pieces, ["row_index", of])
    exact = duplicates.exact_groups(rows[of], rows["row_index"])
    near = duplicates.near_groups(exact, duplicates.forest(np.concatenate(edges)))
    tables = [
        _grouped(pieces, of, "exact", rows["row_index"], exact),
        _grouped(pieces, of, "near", rows["row_index"], near),
    ]
    with atomic_path(folder / f"{of}.parquet") as temporary:
        pq.write_table(pa.concat_tables(tables), temporary)
    return [
        _counted(pieces, of, kind, table)
        for kind, table in zip(get_args(Kind), tables, strict=True)
    ]


def _grouped(
    pieces: Path, of: Of, kind: Kind, row_index: np.ndarray, group: np.ndarray
) -> pa.Table:
    """Rows of groups of two and more, in the order of the corpus."""
    size = duplicates.group_sizes(group)
    many = size > 1
    types = _read(pieces, ["row_index", "task_type"], row_index[many]).sort_by("row_index")
    words = [pa.repeat(word, int(many.sum())) for word in (of, kind)]
    return pa.table(
        [row_index[many], types["task_type"], *words, group[many], size[many]], schema=SCHEMA
    )


def _counted(pieces: Path, of: Of, kind: Kind, table: pa.Table) -> DuplicateCount:
    group, size = (table[name].to_numpy() for name in ("group", "size"))
    example = ""
    if len(size):
        (example,) = _shown(pieces, of, [int(group[size.argmax()])]).values()
    return DuplicateCount(
        of=of,
        kind=kind,
        rows=len(size),
        groups=len(np.unique(group)),
        largest=int(size.max(initial=0)),
        example=example,
    )


def count_types(pieces: Path, parts: int) -> tuple[TypeProfile, list[TypeProfile]]:
    """Task: describe all rows, and every task type; the more parts, the less memory."""
    counts = {name: _counts(pieces, name) for name in COUNTED if name not in PHRASES}
    for name in PHRASES:  # nearly every row has its own: a part of the values at a time
        of_part = [repeated(_counts(pieces, name, part, parts)) for part in range(parts)]
        counts[name] = pa.concat_tables(of_part)
    return describe_types(counts, lambda name, row_indices: _shown(pieces, name, row_indices))


def _counts(pieces: Path, name: str, part: int = 0, parts: int = 1) -> pa.Table:
    """Count the values of a column; of keys, those that fall into one of several parts."""
    counts = []
    for file in parquet_files(pieces):
        rows = pq.read_table(file, columns=["task_type", "row_index", name])
        if parts > 1:
            rows = rows.drop_null()
            rows = rows.filter(pa.array(rows[name].to_numpy() % parts == part))
        counts.append(count_values(rows, name))
    return add_counts(counts)


def _columns(pieces: Path, names: list[str]) -> dict[str, np.ndarray]:
    """Numbers of all rows, in order of row_index."""
    table = _read(pieces, names)
    order = np.argsort(table["row_index"].to_numpy())
    return {name: table[name].to_numpy()[order] for name in names}


def _signatures(pieces: Path, of: Of, row_indices: np.ndarray) -> np.ndarray:
    """Signatures of the rows at rising row_indices, shape `[rows, VALUES]`."""
    name = f"{of}_signature"
    table = _read(pieces, ["row_index", name], row_indices)
    order = np.argsort(table["row_index"].to_numpy())
    column = pa.concat_arrays([pa.array([], table[name].type), *table[name].chunks])
    data = np.frombuffer(column.buffers()[1] or b"", dtype=np.uint8)
    return data.reshape(-1, duplicates.VALUES)[order]


def _shown(pieces: Path, name: str, row_indices: list[int]) -> dict[int, str]:
    """Excerpts of texts by row_index."""
    table = _read(pieces, ["row_index", f"{name}_shown"], np.array(row_indices, dtype=np.int64))
    return dict(zip(*(column.to_pylist() for column in table.columns), strict=True))


def _read(pieces: Path, names: list[str], row_indices: np.ndarray | None = None) -> pa.Table:
    """Columns of all rows, or of those at some row_indices, with few rows in flight."""
    chosen = None if row_indices is None else pads.field("row_index").isin(pa.array(row_indices))
    return pads.dataset(parquet_files(pieces)).to_table(
        names, filter=chosen, batch_size=1 << 14, batch_readahead=1, fragment_readahead=1
    )


def _told(profile: CorpusProfile) -> str:
    """What a user must know of the corpus before training on it."""
    counts = [f"{row.rows} {row.of}s ({row.kind})" for row in profile.duplicates]
    told = f"{profile.all.rows} rows; duplicates: {', '.join(counts)}"
    if not profile.all.answers:
        return told
    top = profile.all.answers[0]
    return f"{told}; {top.count} rows ({top.share:.1%}) have one answer: {top.text!r}"
