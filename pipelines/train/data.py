"""What one arm trains and watches: corpus and replay, held-out rows, what the base knew."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cluster.rundir import RunDirectory
from nlirg.config.corpus import DataConfig
from nlirg.config.training import GuardConfig, TrainConfig
from nlirg.corpus.arrangement.mixing import REPLAY, Mixture, is_mixed, mixture, source_names
from nlirg.corpus.arrangement.ordering import hash_rank
from nlirg.errors import InputError
from nlirg.forward.batching import EncodedCorpus
from nlirg.forward.joined import beside
from pipelines.recipe import Recipe
from pipelines.train.encoded import read_encoded, read_plan, read_replay, split_replay
from pipelines.train.job import TrainJob

MIXED = ("id", "rank", "number", "task_type", "data", "alone", "n_trained")
GUARD_TOKENS = 96  # of a general text: more texts say more than longer ones


@dataclass(frozen=True)
class TrainingData:
    """What a run trains and measures.

    Attributes:
        corpus: with replay beside it, where the arm has any.
        mixed: how often each sample of it is seen.
        held_out: rows to validate on.
        known: general texts, and own answers of the base model, for the guard.
    """

    corpus: EncodedCorpus
    mixed: Mixture
    held_out: EncodedCorpus | None
    known: tuple[EncodedCorpus, EncodedCorpus | None] | None


def read_training(job: TrainJob) -> TrainingData:
    """Open what a run trains and measures.

    Raises:
        InputError: if rows cannot be held out, a share cannot be met, or token files lack rows.
    """
    train = job.train
    names = source_names(job.data)
    count = train.validation.rows if train.validation else 0
    corpus, *kept = read_encoded(job.encoded, job.tokens, count, names)
    answers = None
    if job.replay is not None:
        watched, replay = read_replay(job.replay, *job.reserved)
        answers = watched if len(watched) else None
        if train.replay is not None:
            corpus = beside(corpus, replay)
    mixed = mixture(
        job.data,
        corpus.source,
        corpus.task_types,
        corpus.tasks,
        corpus.n_trained,
        None if train.replay is None else train.replay.share,
    )
    known = None if train.guard is None else (_texts(job.general), answers)
    return TrainingData(corpus, mixed, kept[0] if kept else None, known)


def _texts(texts: Sequence[Sequence[int]]) -> EncodedCorpus:
    rows = [{"input_ids": np.array(ids), "labels": np.array(ids)} for ids in texts]
    return EncodedCorpus(rows, np.array([len(ids) - 1 for ids in texts], np.int64))


def own_answers(config: TrainConfig, task: str) -> bool:
    """Say whether an arm needs the base model's own answers; plain text has none."""
    return task == "sft" and (config.replay is not None or config.guard is not None)


def reserved(recipe: Recipe) -> tuple[int, bool]:
    """Return how many of the base model's answers some arm watches, and whether some arm trains.

    None trains those that one watches.
    """
    arms = [recipe.arm(name) for name in recipe.arms]
    rows = [arm.guard.rows // 2 for arm in arms if arm.guard is not None]
    return max(rows, default=0), any(arm.replay is not None for arm in arms)


def guard_texts(config: GuardConfig, tokenizer: Any, task: str) -> tuple[tuple[int, ...], ...]:
    """Return the token ids of the general texts that a guard watches, at most `GUARD_TOKENS` each.

    They are those of smallest hash; half of the guard's rows, or all where there are no answers.

    Raises:
        InputError: if the file cannot be used.
    """
    from eval.cases.general import guard_passages

    count = config.rows - (config.rows // 2 if task == "sft" else 0)
    passages = sorted(guard_passages(config.general), key=lambda passage: hash_rank(passage.id))
    encoded = (tuple(tokenizer(passage.text).input_ids[:GUARD_TOKENS]) for passage in passages)
    found = tuple([ids for ids in encoded if len(ids) > 1][:count])
    if len(found) < 2:
        raise InputError(
            f"train.guard.general {config.general}: {len(found)} texts have two tokens or more, "
            "and a guard needs two of them"
        )
    return found


def texts_hash(texts: Sequence[Sequence[int]]) -> str:
    """Return what tells a guard's texts from others."""
    return hashlib.sha256(repr(texts).encode()).hexdigest()[:16]


def asks_for_mixing(data: Sequence[DataConfig], config: TrainConfig) -> bool:
    """Say whether an arm sees some rows more often than others."""
    return is_mixed(data) or config.replay is not None


def planned_mixture(recipe: Recipe, run: RunDirectory, config: TrainConfig) -> Mixture:
    """Return how often an arm will see the rows of the encoded corpus, and of replay if it is made.

    Raises:
        InputError: if a share cannot be met.
    """
    held_out = config.validation.rows if config.validation else 0
    table, *_ = read_plan(run.encoded.path, held_out, MIXED)
    tasks = table["task_type"].combine_chunks()
    source, task = table["data"].to_numpy(), tasks.indices.to_numpy()
    n_trained, types = table["n_trained"].to_numpy(), tasks.dictionary.to_pylist()
    share = None
    if config.replay is not None and run.replay.marker.is_file():
        share = config.replay.share
        (answers,) = read_plan(run.replay.path, 0, MIXED)
        own = split_replay(answers, *reserved(recipe))[1]["n_trained"].to_numpy()
        source = np.concatenate([source, np.full(len(own), len(recipe.data))])
        task = np.concatenate([task, np.full(len(own), len(types))])
        n_trained, types = np.concatenate([n_trained, own]), [*types, REPLAY]
    return mixture(recipe.data, source, types, task, n_trained, share)


def few_watched(job: TrainJob) -> str | None:
    """Say what a guard watches where that is less than its `rows`; None if it is not."""
    guard = job.train.guard
    if guard is None:
        return None
    answers = 0
    if job.replay is not None:
        (plan,) = read_plan(job.replay, 0, MIXED)
        answers = min(split_replay(plan, *job.reserved)[0].num_rows, guard.rows // 2)
    count = len(job.general) + answers
    if count >= guard.rows:
        return None
    return (
        f"the guard watches {count} of {guard.rows} rows, since there are no more: "
        f"{len(job.general)} general texts and {answers} answers of the base model"
    )
