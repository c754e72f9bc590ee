"""Pre-train the demo's base model: `python -m pipelines.demo.base_model [--steps N] [--out DIR]`.

A Qwen3 of about a million parameters learns general skills and open text from conversations of
the demo world, on the answers only. The same seed on the same machine and library versions
gives the same weights, bit for bit.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from random import Random

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from pipelines.demo.abilities import measure_abilities
from pipelines.demo.tokenizer import POSITIONS, build_tokenizer
from pipelines.demo.world import Conversation, conversations
from pipelines.progress import Progress, say

SEED = 7
STEPS = 3600
BATCH = 16
BATCHES_SORTED_TOGETHER = 16
MUON_RATE = 0.02
ADAMW_RATE = 3e-3
WARMUP = 50
MAX_GRAD_NORM = 1.0
IGNORED = -100
DIRECTORY = Path(__file__).parent / "base_model"


def build_model(tokenizer: PreTrainedTokenizerFast) -> Qwen3ForCausalLM:
    """A fresh model; its shape is one that vLLM's CPU attention supports (head size 32)."""
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=POSITIONS,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )
    return Qwen3ForCausalLM(config)


def encode(
    tokenizer: PreTrainedTokenizerFast, messages: Conversation
) -> tuple[list[int], list[int]]:
    """Token ids and labels of one conversation; labels are -100 outside the answers.

    An answer ends on its end-of-turn token, which is trained too.
    """
    ids: list[int] = []
    labels: list[int] = []
    for message in messages:
        head = tokenizer.encode(f"<|im_start|>{message['role']}\n")
        body = tokenizer.encode(f"{message['content']}<|im_end|>")
        tail = tokenizer.encode("\n")
        ids += head + body + tail
        trained = body if message["role"] == "assistant" else [IGNORED] * len(body)
        labels += [IGNORED] * len(head) + trained + [IGNORED] * len(tail)
    return ids, labels


def batches(tokenizer: PreTrainedTokenizerFast, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless padded batches `(ids, labels)`, both int64 of shape [BATCH, length].

    Conversations are sorted by length within a few batches, to spend less work on padding.
    """
    stream = (encode(tokenizer, messages) for messages in conversations(seed))
    order = Random(seed)
    while True:
        block = sorted(islice(stream, BATCH * BATCHES_SORTED_TOGETHER), key=lambda s: len(s[0]))
        starts = list(range(0, len(block), BATCH))
        order.shuffle(starts)
        for start in starts:
            samples = block[start : start + BATCH]
            yield (
                _padded([ids for ids, _ in samples], tokenizer.pad_token_id),
                _padded([labels for _, labels in samples], IGNORED),
            )


def _padded(rows: list[list[int]], fill: int) -> Tensor:
    tensors = [torch.tensor(row) for row in rows]
    return nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=fill)


def optimizers(model: nn.Module) -> list[torch.optim.Optimizer]:
    """Muon on the hidden matrices, AdamW on embeddings and norms, as Muon's authors advise."""
    hidden = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    chosen = {id(p) for p in hidden}
    rest = [p for p in model.parameters() if id(p) not in chosen]
    return [
        torch.optim.Muon(hidden, lr=MUON_RATE, weight_decay=0.01),
        torch.optim.AdamW(rest, lr=ADAMW_RATE, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def rate_factor(step: int, steps: int) -> float:
    """Linear warm-up, then cosine down to 2 % of the full rate."""
    warm = min(1.0, (step + 1) / WARMUP)
    return warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))


def answer_loss(model: Qwen3ForCausalLM, ids: Tensor, labels: Tensor) -> Tensor:
    """Mean next-token loss over the trained positions; logits are computed for these alone."""
    trained = labels[:, 1:] != IGNORED
    hidden = model.model(input_ids=ids).last_hidden_state[:, :-1][trained]
    return F.cross_entropy(model.lm_head(hidden), labels[:, 1:][trained])


def pretrain(model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, steps: int) -> None:
    """Train in place on `steps` batches of the demo world."""
    model.train()
    optims = optimizers(model)
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(optim, lambda step: rate_factor(step, steps))
        for optim in optims
    ]
    with Progress("base model", total=steps, unit="step") as progress:
        for step, (ids, labels) in enumerate(islice(batches(tokenizer, SEED), steps)):
            loss = answer_loss(model, ids, labels)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), MAX_GRAD_NORM)
            for optim, schedule in zip(optims, schedules, strict=True):
                optim.step()
                schedule.step()
                optim.zero_grad()
            progress.to(step + 1, f"loss {loss.item():.3f}")


def save(
    model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, steps: int, out: Path
) -> None:
    """Write model, tokenizer and `base_model.json`, the record of what the model can do."""
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    abilities = measure_abilities(model, tokenizer)
    record = {
        "sha256": weights_hash(out),
        "seed": SEED,
        "steps": steps,
        "parameters": model.num_parameters(),
        "mean_accuracy": sum(abilities.values()) / len(abilities),
        "accuracy": abilities,
    }
    (out / "base_model.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    say("base model", f"held-out accuracy {record['mean_accuracy']:.3f}, written to {out}")


def weights_hash(directory: Path) -> str:
    """SHA-256 of a model directory's weights file."""
    return hashlib.sha256((directory / "model.safetensors").read_bytes()).hexdigest()


def main() -> None:
    """Build, pre-train, measure and save."""
    parser = argparse.ArgumentParser(description="Pre-train the demo's base model.")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--out", type=Path, default=DIRECTORY)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    torch.use_deterministic_algorithms(True)
    tokenizer = build_tokenizer(SEED)
    model = build_model(tokenizer)
    pretrain(model, tokenizer, options.steps)
    save(model, tokenizer, options.steps, options.out)


if __name__ == "__main__":
    main()
