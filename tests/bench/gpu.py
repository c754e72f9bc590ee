"""On a GPU: how much of its peak our trainer uses, at the shapes of real models.

Unproven: this part has not run yet.
"""

from __future__ import annotations

from typing import Any

import torch

from nlirg.config.training import LoraConfig
from nlirg.forward.batching import EncodedCorpus
from nlirg.monitoring.flops import mfu, peak_flops, training_flops_per_token
from nlirg.training.trainer import Trainer
from tests.bench.measure import Comparison
from tests.bench.ours import silent
from tests.bench.shapes import CorpusShape, ModelShape, settings
from tests.torch_engine import TorchEngine

SHAPES = {
    "0.6B": ModelShape(151_936, 1024, 28, 3072, 16, 8, 128),
    "1.7B": ModelShape(151_936, 2048, 28, 6144, 16, 8, 128),
    "4B": ModelShape(151_936, 2560, 36, 9728, 32, 8, 128),
    "8B": ModelShape(151_936, 4096, 36, 12_288, 32, 8, 128, tied=False),
}
CORPUS = CorpusShape("2,000-token samples", prompt=(900, 1100), response=(991, 1000))
MODES: dict[str, dict[str, Any]] = {
    "token_batch all": {"token_batch": "all"},
    "token_batch 10, full context": {"token_batch": 10},
    "token_batch 10, gradient_context 0": {"token_batch": 10, "gradient_context": 0},
}
GOAL = 0.5
CHECKED, STEPS = 16, 8  # a short context's gradient is checked on a run's first steps
BATCH_SIZE = 8


def compare_gpu() -> list[Comparison]:
    """MFU of every shape, LoRA and full, in every mode; what does not fit is left out and said."""
    rows = []
    for shape in SHAPES:
        for lora in (True, False):
            for mode in MODES:
                rows.append(_row(shape, lora, mode))
                torch.cuda.empty_cache()
    return rows


def _row(shape: str, lora: bool, mode: str) -> Comparison:
    table = f"MFU on one {torch.cuda.get_device_name()}, random weights, bf16"
    name = f"{shape} {'LoRA' if lora else 'full'}, {mode}"
    goal = GOAL if mode == "token_batch all" else None
    try:
        values = [utilisation(SHAPES[shape], lora, MODES[mode])]
    except torch.cuda.OutOfMemoryError:
        return Comparison.of(table, name, [0.0], note="out of memory")
    return Comparison.of(table, name, values, goal=goal)


def utilisation(shape: ModelShape, lora: bool, mode: dict[str, Any]) -> float:
    """MFU of some steps; the optimizer's moments are bf16 too, which costs the same arithmetic."""
    config = settings(
        batch_size=BATCH_SIZE,
        lora=LoraConfig() if lora else None,
        max_steps=CHECKED + STEPS,
        log_every=CHECKED,
        **mode,
    )
    with torch.device("cuda"):
        model = shape.build(lora, torch.bfloat16)
    corpus = CORPUS.build(BATCH_SIZE * (CHECKED + STEPS), shape.vocabulary)
    records: list[dict[str, Any]] = []
    # The rates of the last record leave out the steps before the first; a step ends by reading
    # its gradient's norm, which waits for the GPU.
    Trainer(TorchEngine(model, None, config), corpus, config, 0).run(silent(records.append))
    rates = records[-1]
    processed = rates["processed_tokens_per_s"]
    flops = training_flops_per_token(
        model.config, _context(corpus, mode), lora, rates["tokens_per_s"] / processed
    )
    peak = peak_flops(torch.cuda.get_device_name(), "bf16")
    if flops is None or peak is None:
        raise RuntimeError(f"the peak of {torch.cuda.get_device_name()} is not known")
    return mfu(flops, processed, peak)


def _context(corpus: EncodedCorpus, mode: dict[str, Any]) -> float:
    """Mean length of the sequences that the measured steps compute, in tokens.

    With a cached prefix every token sees all of it, not half of it on average: MFU is then a
    little higher than is said.
    """
    whole = sum(len(row["input_ids"]) for row in corpus.rows) / len(corpus)
    if mode["token_batch"] == "all":
        return whole
    prompt = whole - float(corpus.n_trained.mean())
    return prompt + mode["token_batch"] * (CHECKED + STEPS / 2)
