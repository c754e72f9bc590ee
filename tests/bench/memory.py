"""Peak memory of training, and of the output head alone, each in a process of its own.

Linux counts the most memory a process has held (`VmHWM`); the count is set back before what is
measured. What was there before is taken off.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from nlirg.config.training import LoraConfig
from nlirg.forward.loss import TokenTargets, token_loss
from nlirg.forward.output_head import Head
from nlirg.weighting.weightings import NlirgWeighting
from tests.bench.measure import Comparison
from tests.bench.naive import NaiveLoop
from tests.bench.ours import TrainerSteps, windows_per_round
from tests.bench.shapes import LONG, SHORT, ModelShape, settings, torch_engine
from tests.bench.windows import TOKEN_BATCH

CORPORA = {"short": SHORT, "long": LONG}
HEAD_TOKENS, HEAD_VOCABULARY, HEAD_HIDDEN = 8192, 151_936, 1024
GIB = 2**30


def added_peak(action: Callable[[], Any]) -> int:
    """Most bytes that a call held beyond those held before it (Linux only)."""
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    action()
    return _status("VmHWM") - before


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    line = next(line for line in lines if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024


def training_peak(variant: str, corpus_name: str, batch_size: int, lora: bool) -> int:
    """Bytes above the model's weights at the peak of one step at the end of long samples."""
    model = ModelShape()
    config = settings(
        token_batch=TOKEN_BATCH, batch_size=batch_size, lora=LoraConfig() if lora else None
    )
    corpus = CORPORA[corpus_name].build(batch_size, model.vocabulary)
    last = windows_per_round(corpus, config) - 1
    if variant == "naive":
        return added_peak(NaiveLoop(model.build(lora), corpus, config, [last]))
    return added_peak(TrainerSteps(torch_engine(model, config), corpus, config, [(last, 1)]))


def head_peak(trained: bool) -> int:
    """Bytes that the fused loss adds, gradients of 8,192 hidden states and of the head included."""
    torch.manual_seed(0)
    hidden = torch.randn(HEAD_TOKENS, HEAD_HIDDEN, requires_grad=True)
    weight = torch.randn(HEAD_VOCABULARY, HEAD_HIDDEN).mul_(0.02).requires_grad_(trained)
    targets = TokenTargets(torch.arange(HEAD_TOKENS), NlirgWeighting())
    return added_peak(lambda: token_loss(Head(hidden, weight), targets).objective.backward())


def in_process(function: str, *arguments: Any) -> int:
    """Call one of this module's functions in a new process."""
    command = [sys.executable, "-m", "tests.bench.memory", function, json.dumps(arguments)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{run.stderr}")
    return int(run.stdout.splitlines()[-1])


def compare_memory(batch_sizes: tuple[int, ...] = (1, 8)) -> list[Comparison]:
    """Peak memory of naive over ours, and that of the head beside its goal in GiB."""
    rows = []
    for corpus in CORPORA:
        for batch_size in batch_sizes:
            for lora in (False, True):
                peaks = [
                    in_process("training_peak", variant, corpus, batch_size, lora)
                    for variant in ("naive", "ours")
                ]
                rows.append(_training_row(corpus, batch_size, lora, *peaks))
    return rows + [_head_row(trained) for trained in (False, True)]


def _training_row(corpus: str, batch_size: int, lora: bool, naive: int, ours: int) -> Comparison:
    return Comparison.of(
        "peak memory above the weights, naive / ours",
        f"{CORPORA[corpus].name}, batch_size {batch_size}" + (", LoRA" if lora else ""),
        [naive / ours],
        goal=2.0,
        note=f"{naive / 1e6:,.0f} MB / {ours / 1e6:,.0f} MB, with gradients and Adam's moments",
    )


def _head_row(trained: bool) -> Comparison:
    plain = HEAD_TOKENS * HEAD_VOCABULARY * 4
    return Comparison.of(
        f"GiB added by the head: {HEAD_TOKENS:,} tokens x {HEAD_VOCABULARY:,} vocabulary, "
        f"hidden {HEAD_HIDDEN:,}",
        "trained head" if trained else "frozen head",
        [in_process("head_peak", trained) / GIB],
        goal=1.0,
        at_least=False,
        note=f"plain cross-entropy: {plain / GIB:.2f} for the logits, as much for their gradient",
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    functions: dict[str, Callable[..., int]] = {
        "training_peak": training_peak,
        "head_peak": head_peak,
    }
    print(functions[sys.argv[1]](*json.loads(sys.argv[2])))
