"""Windows of 10 tokens: our trainer against the reference loop's arithmetic."""

from __future__ import annotations

from typing import Any

import torch

from nlirg.config.training import LoraConfig, TrainConfig
from nlirg.forward.batching import EncodedCorpus
from nlirg.training.trainer import Trainer
from tests.bench.measure import Comparison, Costs, Variant, measure
from tests.bench.naive import NaiveLoop
from tests.bench.ours import TrainerSteps, silent, windows_per_round
from tests.bench.shapes import CorpusShape, ModelShape, settings, torch_engine

TOKEN_BATCH = 10
WARM_ROUNDS = 2  # samples of each slot before those that are measured; no gradient is checked there
CONTEXTS = (0, 128)
GOALS = {"150-token samples": (1.8, 3.5), "1,500-token samples": (2.7, 28.0)}
# The cost of a whole-prefix window grows evenly along a long sample: these places stand for it.
PLACES = (1 / 6, 1 / 2, 5 / 6)
MANY_WINDOWS = 30


def compare_windows(
    model: ModelShape, shape: CorpusShape, batch_size: int, rounds: int, lora: bool = False
) -> tuple[Costs, list[Comparison]]:
    """Cost per trained token of the naive loop and of ours, with the same slots and windows."""
    title = f"{shape.name}, batch_size {batch_size}" + (", LoRA" if lora else "")
    base: dict[str, Any] = {
        "token_batch": TOKEN_BATCH,
        "batch_size": batch_size,
        "lora": LoraConfig() if lora else None,
    }
    corpus = shape.build((WARM_ROUNDS + 1) * batch_size, model.vocabulary)
    full = settings(**base)
    windows = windows_per_round(corpus, full)
    stretches = _stretches(windows)
    variants: dict[str, Variant] = {
        "naive": NaiveLoop(
            model.build(lora), corpus, full, [s for a, n in stretches for s in range(a, a + n)]
        ),
        "full": TrainerSteps(torch_engine(model, full), corpus, full, stretches),
    }
    for context in CONTEXTS:
        short = settings(**base, gradient_context=context)
        # Cached prefixes grow window by window, so whole samples are trained.
        whole = [(WARM_ROUNDS * windows, windows)]
        variants[str(context)] = TrainerSteps(torch_engine(model, short), corpus, short, whole)
    costs = measure(title, variants, rounds)
    cosines = {
        c: gradient_cosine(model, corpus, settings(**base, gradient_context=c)) for c in CONTEXTS
    }
    return costs, _rows(costs, shape.name, cosines)


def _stretches(windows: int) -> list[tuple[int, int]]:
    """Steps of the measured round: all of a short one, three places in a long one."""
    first = WARM_ROUNDS * windows
    if windows < MANY_WINDOWS:
        return [(first, windows)]
    return [(first + int(place * windows), 1) for place in PLACES]


def _rows(costs: Costs, corpus: str, cosines: dict[int, float]) -> list[Comparison]:
    full_goal, cached_goal = GOALS.get(corpus, (None, None))
    rows = [
        Comparison.of(
            costs.title, "gradient_context full", costs.ratios("naive", "full"), goal=full_goal
        )
    ]
    for context, cosine in cosines.items():
        rows.append(
            Comparison.of(
                costs.title,
                f"gradient_context {context}",
                costs.ratios("naive", str(context)),
                goal=cached_goal if context == 0 else None,
                note=f"gradient cosine {cosine:.3f} (random weights)",
            )
        )
    return rows


def gradient_cosine(model: ModelShape, corpus: EncodedCorpus, config: TrainConfig) -> float:
    """Cosine between the short and the full gradient over the first steps of a run."""
    records: list[dict[str, Any]] = []
    few = config.model_copy(update={"max_steps": 4, "log_every": 4})
    torch.manual_seed(0)
    Trainer(torch_engine(model, few), corpus, few, 0).run(silent(records.append))
    return float(records[-1]["gradient_cosine"])
