"""The corpus as training reads it: the plan of samples, over the memory-mapped token files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads

from nlirg.corpus.arrangement.mixing import REPLAY
from nlirg.corpus.tokens import Pieces, PlannedSamples, TokenFiles
from nlirg.forward.batching import EncodedCorpus
from nlirg.training.validation import held_out_ids
from pipelines.ray_data import parquet_files

COLUMNS = ["id", "rank", "number", "task_type", "data", "alone", "n_trained", "pieces"]


def read_encoded(
    plan: Path, tokens: Path, held_out: int = 0, sources: Sequence[str] = ("",)
) -> tuple[EncodedCorpus, ...]:
    """Open the encoded corpus, in the order of the samples' ranks.

    Args:
        plan: `encoded/` of a run.
        tokens: folder of the token files that the plan speaks of.
        held_out: rows of the corpus to keep from training, with all their samples.
        sources: names of the recipe's sources.

    Returns:
        What is trained; and what is held out, if anything is.

    Raises:
        InputError: if nothing would be left to train, or token files lack rows of the plan.
    """
    files = TokenFiles(tokens)
    return tuple(_corpus(table, files, sources) for table in read_plan(plan, held_out))


def read_plan(
    plan: Path, held_out: int = 0, columns: Sequence[str] = tuple(COLUMNS)
) -> tuple[pa.Table, ...]:
    """Read the plan, in the order of the samples' ranks.

    Args:
        plan: `encoded/` of a run.
        held_out: see `read_encoded`.
        columns: to read; id, rank, number, task_type and alone are needed.

    Returns:
        What is trained; and what is held out, if anything is.

    Raises:
        InputError: if too few rows can be held out, or nothing would be left to train.
    """
    table = pads.dataset(parquet_files(plan)).to_table(list(columns))
    table = table.take(np.lexsort([table[name].to_numpy() for name in ("number", "rank")]))
    table = table.set_column(
        table.schema.get_field_index("task_type"),
        "task_type",
        table["task_type"].combine_chunks().dictionary_encode(),  # one numbering for all parts
    )
    if not held_out:
        return (table,)
    ids = table["id"].to_pylist()
    out = held_out_ids(ids, table["alone"].to_pylist(), held_out)
    inside = np.array([name in out for name in ids])
    return table.filter(~inside), table.filter(inside)


def read_replay(folder: Path, reserved: int, trained: bool) -> tuple[EncodedCorpus, EncodedCorpus]:
    """Open the base model's own answers.

    Args:
        folder: `replay/` of a run.
        reserved: how many of them no arm trains.
        trained: whether some arm trains the others, so that half of them must be left.

    Returns:
        Those, to be watched; and the others, to be trained.
    """
    files = TokenFiles(folder / "tokens")
    (table,) = read_plan(folder)
    parts = split_replay(table, reserved, trained)
    watched, rest = (_corpus(part, files, (REPLAY,)) for part in parts)
    return watched, rest


def split_replay(plan: pa.Table, reserved: int, trained: bool) -> tuple[pa.Table, pa.Table]:
    """Cut the plan of replay into what is watched and what may be trained; see `read_replay`."""
    first = min(reserved, plan.num_rows // 2) if trained else reserved
    return plan.slice(0, first), plan.slice(first)


def _corpus(plan: pa.Table, files: TokenFiles, sources: Sequence[str]) -> EncodedCorpus:
    """Some samples of the plan, in their order."""
    plan = plan.combine_chunks()
    pieces, tasks = (plan[name].combine_chunks() for name in ("pieces", "task_type"))
    fields = [pieces.flatten().field(name).to_numpy() for name in ("row_index", "start", "stop")]
    sizes = pieces.value_lengths().to_numpy()
    return EncodedCorpus(
        PlannedSamples(files, Pieces(*fields), np.concatenate([[0], np.cumsum(sizes)])),
        plan["n_trained"].to_numpy(),
        tuple(tasks.dictionary.to_pylist()),
        tasks.indices.to_numpy(),
        packed=bool(sizes.max(initial=0) > 1),
        sources=tuple(sources),
        source=plan["data"].to_numpy().astype(np.int64),
    )
