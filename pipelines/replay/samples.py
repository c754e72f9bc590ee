"""Answers as training samples: a token file and a plan of their own, as the corpus has them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from eval.generation.generate import Device
from nlirg.atomic_io import atomic_path
from nlirg.config.corpus import ScoreConfig
from nlirg.corpus.arrangement.ordering import hash_rank
from nlirg.corpus.tokens import ENTROPY, LOSS, SUFFIX, token_table, write_token_file
from nlirg.labels import IGNORE
from nlirg.scoring.scores import TokenScores
from pipelines.encode.plan import PLAN
from pipelines.evaluate.answers import Variant
from pipelines.replay.asking import Answered
from pipelines.replay.prompt_files import ID_PREFIX
from pipelines.score.rows import FLOAT32S, INT32S, MakeScorer

TOKENS = "tokens"  # folder of the token file

Sample = tuple[np.ndarray, np.ndarray]


def sample_of(answered: Answered) -> Sample:
    """Return token ids [T] and labels [T] of a prompt and the very tokens it was answered with."""
    assert answered.answer is not None
    prompt, said = answered.rendered.ids, answered.answer.token_ids
    ids = np.array([*prompt, *said], np.int32)
    labels = np.array([*[IGNORE] * len(prompt), *said], np.int32)
    return ids, labels


def sample_id(answered: Answered) -> str:
    """Return the id of a sample: no row of the corpus has it."""
    return f"{ID_PREFIX}{answered.prompt.id}"


def score_samples(
    variant: Variant,
    device: Device,
    make_scorer: MakeScorer,
    config: ScoreConfig,
    samples: Sequence[Sample],
    names: Sequence[str],
) -> list[TokenScores]:
    """Score samples under a model; runs in a process of its own.

    Raises:
        InputError: if the model cannot be loaded, or gives NaN.
    """
    return make_scorer(str(variant.model.resolve()), config).score(samples, names)


def write_samples(
    folder: Path,
    kept: Sequence[Answered],
    samples: Sequence[Sample],
    scores: Sequence[TokenScores],
    entropy: bool,
) -> None:
    """Write `tokens/part-00000.arrow` and `plan.parquet`, which training reads.

    Args:
        folder: of the stage.
        kept: the answers.
        samples: of them.
        scores: what the base model makes of their trained tokens.
        entropy: whether the corpus' token files hold entropies.
    """
    rows = pa.table(
        {
            "row_index": pa.array(range(len(samples)), pa.int64()),
            "input_ids": pa.array([ids for ids, _ in samples], INT32S),
            "labels": pa.array([labels for _, labels in samples], INT32S),
            LOSS: pa.array([score.loss for score in scores], FLOAT32S),
            ENTROPY: pa.array([score.entropy for score in scores], FLOAT32S),
        }
    )
    (folder / TOKENS).mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / TOKENS / f"part-00000{SUFFIX}") as temporary:
        write_token_file(temporary, token_table(rows, entropy))
    with atomic_path(folder / "plan.parquet") as temporary:
        pq.write_table(plan_of(kept, samples), temporary)


def plan_of(kept: Sequence[Answered], samples: Sequence[Sample]) -> pa.Table:
    """Return the plan of samples (`pipelines.encode.plan.PLAN`), in an order by their ids' hash."""
    names = [sample_id(answered) for answered in kept]
    order = sorted(range(len(names)), key=lambda index: hash_rank(names[index]))
    ranks = {index: rank for rank, index in enumerate(order)}
    rows = [
        {
            "id": names[index],
            "rank": ranks[index],
            "number": 0,
            "task_type": answered.prompt.task_type,
            "data": 0,
            "alone": True,
            "n_tokens": len(ids),
            "n_trained": int(np.count_nonzero(labels != IGNORE)),
            "pieces": [{"row_index": index, "start": 0, "stop": len(ids)}],
        }
        for index, (answered, (ids, labels)) in enumerate(zip(kept, samples, strict=True))
    ]
    return pa.Table.from_pylist(rows, PLAN)
