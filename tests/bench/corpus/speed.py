"""What scoring costs beside the forward pass it cannot do without, and beside the naive way."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nlirg.forward.batching import EncodedCorpus, TokenBatch, token_batch
from nlirg.labels import IGNORE
from nlirg.monitoring.flops import training_flops_per_token
from nlirg.scoring.scorer import Scorer, length_batches, scored_row
from nlirg.scoring.scores import sample_scores
from tests.bench.gpu import SHAPES
from tests.bench.measure import Comparison, Costs, Work, measure, user_seconds
from tests.bench.shapes import CorpusShape, ModelShape

MID = CorpusShape("mid-length answers", prompt=(50, 100), response=(50, 250))
SAMPLES = 192
NAIVE_SHARE = 12  # one sample in so many is analysed naively
CPU_BATCH_TOKENS = 1024
PRECISIONS: tuple[Literal["fp32", "bf16"], ...] = ("fp32", "bf16")
NAIVE, BARE = "two forwards a sample", "bare forward"
OURS, ALL, HALF = "scorer", "scorer, all scores", "scorer, all scores, bf16"

GPU_SHAPES = ("0.6B", "8B")
GPU_CORPUS = CorpusShape("1,000-token samples", prompt=(400, 600), response=(400, 600))
GPU_BATCH_TOKENS = 16_384
GPU_GOAL = 0.5
MATMUL = 8192  # rows and columns of the matrices whose product tells a GPU's rate


@dataclass
class Naive:
    """The reference's analyser, its arithmetic written out; its tokenizing and decoding left out.

    Every sample is run twice by itself with logits at all positions: once for the losses, of all
    positions too, and once for the entropies of the answer, from p and ln p each by itself.
    """

    model: Any
    samples: Sequence[tuple[np.ndarray, np.ndarray]]

    @torch.no_grad()
    def __call__(self) -> Work:
        """Analyse all samples."""
        started, tokens = user_seconds(), 0
        for ids, labels in self.samples:
            inputs, targets = torch.from_numpy(ids)[None], torch.from_numpy(labels)[1:]
            trained = int((targets != IGNORE).sum())
            logits = self._logits(inputs)[0, :-1].contiguous()
            F.cross_entropy(logits, targets, reduction="none")[-trained:].numpy()
            answer = self._logits(inputs)[0, -trained - 1 : -1]
            p, log_p = F.softmax(answer, dim=-1), F.log_softmax(answer, dim=-1)
            (-torch.sum(p * log_p, dim=-1)).numpy()
            tokens += trained
        return Work(user_seconds() - started, tokens)

    def _logits(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.model(
            input_ids=inputs, attention_mask=torch.ones_like(inputs), use_cache=True
        ).logits
        return logits


@dataclass
class Bare:
    """The batched forward alone, with logits where they are needed and nothing made of them."""

    model: Any
    batches: Sequence[TokenBatch]

    @torch.no_grad()
    def __call__(self) -> Work:
        """Run all batches."""
        started, tokens = user_seconds(), 0
        for batch in self.batches:
            hidden = self.model.model(**batch.inputs()).last_hidden_state
            self.model.lm_head(hidden[batch.rows, batch.columns])
            tokens += len(batch.targets)
        return Work(user_seconds() - started, tokens)


@dataclass
class Ours:
    """Our scorer; with `scored`, what the corpus is told of each sample too."""

    scorer: Scorer
    samples: Sequence[tuple[np.ndarray, np.ndarray]]
    scored: bool

    def __call__(self) -> Work:
        """Score all samples."""
        started = user_seconds()
        found = self.scorer.score(self.samples)
        if self.scored:
            for tokens in found:
                sample_scores(tokens)
        return Work(user_seconds() - started, sum(len(tokens.loss) for tokens in found))


def pairs(corpus: EncodedCorpus) -> list[tuple[np.ndarray, np.ndarray]]:
    """Token ids and labels of every sample."""
    return [(row["input_ids"], row["labels"]) for row in corpus.rows]


def compare_speed(
    shape: ModelShape, rounds: int, corpus: CorpusShape = MID, samples: int = SAMPLES
) -> tuple[Costs, list[Comparison]]:
    """CPU time of a trained token: the naive analyser, ours, and the forward pass alone."""
    model = shape.build().eval()
    inputs = pairs(corpus.build(samples, shape.vocabulary))
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        scorer, half = (Scorer(folder, kind, CPU_BATCH_TOKENS) for kind in PRECISIONS)
    rows = {
        index: row for index, pair in enumerate(inputs) if (row := scored_row(*pair)) is not None
    }
    batches = [
        token_batch([rows[index] for index in batch])
        for batch in length_batches(rows, CPU_BATCH_TOKENS)
    ]
    variants: dict[str, Callable[[], Work]] = {
        NAIVE: Naive(model, inputs[::NAIVE_SHARE]),
        BARE: Bare(model, batches),
        OURS: Ours(scorer, inputs, scored=False),
        ALL: Ours(scorer, inputs, scored=True),
        HALF: Ours(half, inputs, scored=True),
    }
    title = f"scoring {corpus.name}, {samples} samples, fp32 unless said"
    costs = measure(title, variants, rounds)
    note = f"{padding(batches):.1%} of the input is padding"
    return costs, [
        Comparison.of(title, "naive / ours", costs.ratios(NAIVE, ALL), goal=5.0),
        Comparison.of(title, "naive / ours in bf16, the default", costs.ratios(NAIVE, HALF)),
        Comparison.of(
            title,
            "ours / bare batched forward",
            costs.ratios(ALL, BARE),
            goal=1.3,
            at_least=False,
            note=note,
        ),
        Comparison.of(title, "all scores / tokens' alone", costs.ratios(ALL, OURS)),
    ]


def padding(batches: Sequence[TokenBatch]) -> float:
    """Share of the input tokens that is padding."""
    return 1 - sum(batch.tokens for batch in batches) / sum(b.padded_tokens for b in batches)


def compare_gpu_speed() -> list[Comparison]:
    """Share of the GPU's own matmul rate that scoring uses, bf16, random weights.

    Unproven: this part has not run yet.

    Returns:
        One row per shape; none without a GPU.
    """
    if not torch.cuda.is_available():
        return []
    rate = matmul_rate()
    return [_gpu_row(name, rate) for name in GPU_SHAPES]


def matmul_rate() -> float:
    """FLOP/s of a large bf16 product on this GPU."""
    a, b = (torch.randn(MATMUL, MATMUL, dtype=torch.bfloat16, device="cuda") for _ in range(2))
    times = []
    for _ in range(20):
        torch.cuda.synchronize()
        started = time.perf_counter()
        a @ b
        torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return 2 * MATMUL**3 / float(np.median(times))


def _gpu_row(name: str, rate: float) -> Comparison:
    shape = SHAPES[name]
    corpus = GPU_CORPUS.build(SAMPLES, shape.vocabulary)
    with tempfile.TemporaryDirectory() as folder:
        with torch.device("cuda"):
            model = shape.build(dtype=torch.bfloat16)
        model.save_pretrained(folder)
        config = model.config
        del model
        torch.cuda.empty_cache()
        scorer = Scorer(folder, "bf16", GPU_BATCH_TOKENS)
    inputs = pairs(corpus)
    scorer.score(inputs)
    started = time.perf_counter()
    scorer.score(inputs)  # ends by reading the last result, which waits for the GPU
    seconds = time.perf_counter() - started
    tokens = sum(len(ids) for ids, _ in inputs)
    trained = float(corpus.n_trained.sum())
    flops = training_flops_per_token(config, tokens / len(inputs), head_share=trained / tokens)
    assert flops is not None, "a dense model"
    return Comparison.of(
        f"scoring / {rate / 1e12:.0f} TFLOP/s of {torch.cuda.get_device_name()}'s matmul",
        f"{name}, {GPU_CORPUS.name}",
        [flops / 3 * tokens / seconds / rate],  # the forward is a third of training
        goal=GPU_GOAL,
        note=f"{tokens / seconds:,.0f} tokens/s",
    )
