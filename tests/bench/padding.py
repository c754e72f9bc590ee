"""Padding: what grouping the rows of a step by length saves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from nlirg.config.training import TrainConfig
from nlirg.forward.batching import EncodedCorpus
from nlirg.training import objective
from nlirg.training.trainer import Trainer, TrainingProgress
from tests.bench.measure import Comparison, Variant, Work, measure
from tests.bench.ours import TrainerSteps, silent
from tests.bench.shapes import ModelShape, random_corpus, settings, torch_engine

# Medians and spreads near those of Alpaca's prompts and answers in tokens.
PROMPT_MEDIAN, PROMPT_SIGMA = 60, 0.5
RESPONSE_MEDIAN, RESPONSE_SIGMA = 60, 0.9
LONGEST = 512
NEVER = 10**9  # a forward that costs so much is never added


def alpaca_like(samples: int, vocabulary: int, seed: int = 0) -> EncodedCorpus:
    """Random tokens with log-normal lengths."""
    rng = np.random.default_rng(seed)
    prompts = rng.lognormal(np.log(PROMPT_MEDIAN), PROMPT_SIGMA, samples).astype(int)
    responses = rng.lognormal(np.log(RESPONSE_MEDIAN), RESPONSE_SIGMA, samples).astype(int)
    return random_corpus(prompts.clip(8, LONGEST), responses.clip(2, LONGEST), vocabulary, rng)


def compare_padding(
    model: ModelShape, batch_size: int, steps: int, rounds: int
) -> list[Comparison]:
    """CPU time with all rows of a step in one padded batch over that with groups."""
    rows = []
    for token_batch in (10, "all"):
        config = settings(token_batch=token_batch, batch_size=batch_size)
        per_step = batch_size if token_batch == "all" else batch_size // 4
        corpus = alpaca_like((steps + 1) * per_step + batch_size, model.vocabulary)
        stretch = [(0, steps)]
        together = TrainerSteps(torch_engine(model, config), corpus, config, stretch)
        grouped = TrainerSteps(torch_engine(model, config), corpus, config, stretch)
        variants: dict[str, Variant] = {
            "together": lambda run=together: _ungrouped(run),
            "grouped": grouped,
        }
        costs = measure("padding", variants, rounds)
        with _forward_overhead(NEVER):
            before = padding_share(model, corpus, config, steps)
        after = padding_share(model, corpus, config, steps)
        rows.append(
            Comparison.of(
                f"grouping rows by length, log-normal lengths, batch_size {batch_size}",
                f"token_batch {token_batch}: CPU together / grouped",
                costs.ratios("together", "grouped"),
                note=f"padding {before:.0%} together, {after:.0%} grouped",
            )
        )
    return rows


def _ungrouped(run: TrainerSteps) -> Work:
    with _forward_overhead(NEVER):
        return run()


@contextmanager
def _forward_overhead(tokens: int) -> Iterator[None]:
    """Let one more forward cost so many tokens."""
    before = objective.FORWARD_OVERHEAD["cpu"]
    objective.FORWARD_OVERHEAD["cpu"] = tokens
    try:
        yield
    finally:
        objective.FORWARD_OVERHEAD["cpu"] = before


def padding_share(
    model: ModelShape, corpus: EncodedCorpus, config: TrainConfig, steps: int
) -> float:
    """Share of the computed tokens that are padding."""
    shares: list[float] = []
    few = config.model_copy(update={"max_steps": steps, "log_every": steps})
    engine = torch_engine(model, few)
    trainer = Trainer(engine, corpus, few, 0, progress=TrainingProgress())
    trainer.run(silent(lambda record: shares.append(record["padding_share"])))
    return shares[-1]
