"""What watching and replaying cost beside training alone, for LoRA at the defaults."""

from __future__ import annotations

from typing import Any

import numpy as np

from nlirg.config.corpus import DataConfig
from nlirg.config.training import GuardConfig, LoraConfig, ReplayShareConfig, TrainConfig
from nlirg.corpus.arrangement.mixing import mixture
from nlirg.forward.batching import EncodedCorpus
from nlirg.forward.joined import beside
from nlirg.training.trainer import Trainer, TrainingProgress
from tests.bench.measure import Comparison, Work, measure, user_seconds
from tests.bench.ours import silent
from tests.bench.shapes import CorpusShape, ModelShape, random_corpus, settings, torch_engine

MOST = 1.05  # a guard's cost over training without one
TEXT, PROMPT, ANSWER = 60, 20, 100  # tokens: the shipped texts', and those of usual answers


class WatchedSteps:
    """Trains the same steps in every call; what a guard measures only once does not count."""

    def __init__(self, model: ModelShape, shape: CorpusShape, steps: int, **changes: Any) -> None:
        self._config = settings(
            token_batch=10, batch_size=8, lora=LoraConfig(), max_steps=steps, epochs=99, **changes
        )
        engine = torch_engine(model, self._config)
        corpus = shape.build(16, model.vocabulary)
        replay = shape.build(16, model.vocabulary, seed=1)
        share = self._config.replay and self._config.replay.share
        if share:
            corpus = beside(corpus, replay)
        source = corpus.source if share else np.zeros(len(corpus), np.int64)
        tasks = corpus.tasks if share else source
        mixed = mixture(
            [DataConfig(path="c.jsonl")], source, corpus.task_types, tasks, corpus.n_trained, share
        )
        known = _known(self._config, model.vocabulary)
        self._trainer = Trainer(engine, corpus, self._config, 0, mixed=mixed, known=known)
        self._begun = TrainingProgress()
        if self._trainer._guard is not None:
            self._begun = TrainingProgress(start=self._trainer._guard.measure())

    def __call__(self) -> Work:
        """Train the steps."""
        self._trainer.progress = self._begun
        started = user_seconds()
        done = self._trainer.run(silent())
        return Work(user_seconds() - started, done.trained_tokens)


def _known(config: TrainConfig, vocabulary: int) -> tuple[EncodedCorpus, EncodedCorpus] | None:
    if config.guard is None:
        return None
    half, rng = config.guard.rows // 2, np.random.default_rng(2)
    texts = random_corpus(np.ones(half, int), np.full(half, TEXT), vocabulary, rng)
    answers = random_corpus(np.full(half, PROMPT), np.full(half, ANSWER), vocabulary, rng)
    return texts, answers


def compare_keeping(
    model: ModelShape, shape: CorpusShape, rounds: int, steps: int = 100
) -> list[Comparison]:
    """CPU time a trained token with a guard, and with replay, over that of training alone."""
    guard = GuardConfig()
    shares = {name: ReplayShareConfig(objective=name) for name in ("ce", "kl")}
    variants = {
        "alone": WatchedSteps(model, shape, steps),
        "guard": WatchedSteps(model, shape, steps, guard=guard),
        **{
            f"replay {name}": WatchedSteps(model, shape, steps, replay=replay)
            for name, replay in shares.items()
        },
    }
    costs = measure("keeping what the model knows, LoRA, batch_size 8", variants, rounds)
    rows = [("guard", f"guard of {guard.rows} rows every {guard.every} steps", MOST)]
    rows += [(f"replay {name}", f"replay of 20 %, {name}", None) for name in shares]
    return [
        Comparison.of(
            costs.title,
            f"{told} / alone, {shape.name}",
            costs.ratios(variant, "alone"),
            goal=goal,
            at_least=False,
        )
        for variant, told, goal in rows
    ]
