"""The corpus as training reads it: the plan of samples, over the memory-mapped token files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads

from nlirg.corpus.tokens import Pieces, PlannedSamples, TokenFiles
from nlirg.forward.batching import EncodedCorpus
from nlirg.training.validation import held_out_ids
from pipelines.ray_data import parquet_files

COLUMNS = ["id", "rank", "number", "task_type", "n_trained", "pieces"]


def read_encoded(plan: Path, tokens: Path, held_out: int = 0) -> tuple[EncodedCorpus, ...]:
    """Open the encoded corpus, in the order of the samples' ranks.

    Args:
        plan: `encoded/` of a run.
        tokens: folder of the token files that the plan speaks of.
        held_out: rows of the corpus to keep from training, with all their samples.

    Returns:
        What is trained; and what is held out, if anything is.

    Raises:
        InputError: if nothing would be left to train, or token files lack rows of the plan.
    """
    columns = COLUMNS if held_out else COLUMNS[1:]
    table = pads.dataset(parquet_files(plan)).to_table(columns)
    table = table.take(np.lexsort([table[name].to_numpy() for name in ("number", "rank")]))
    table = table.set_column(
        table.schema.get_field_index("task_type"),
        "task_type",
        table["task_type"].combine_chunks().dictionary_encode(),  # one numbering for all parts
    )
    files = TokenFiles(tokens)
    if not held_out:
        return (_corpus(table, files),)
    ids = table["id"].to_pylist()
    out = held_out_ids(ids, held_out)
    inside = np.array([name in out for name in ids])
    return _corpus(table.filter(~inside), files), _corpus(table.filter(inside), files)


def _corpus(plan: pa.Table, files: TokenFiles) -> EncodedCorpus:
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
    )
