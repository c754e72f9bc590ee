"""The model and the corpora that every benchmark uses, and the toy sizes that test it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from nlirg.config.training import LoraConfig, TrainConfig
from nlirg.forward.batching import EncodedCorpus
from nlirg.labels import IGNORE
from nlirg.models.lora import add_lora
from tests.torch_engine import TorchEngine

RESERVED = 3  # ids below are special tokens


@dataclass(frozen=True)
class ModelShape:
    """A Qwen3 with random weights and tied embeddings; the default has 12.9M parameters."""

    vocabulary: int = 32_000
    hidden: int = 256
    layers: int = 6
    intermediate: int = 768
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 64
    tied: bool = True

    def build(self, lora: bool = False, dtype: torch.dtype = torch.float32, seed: int = 0) -> Any:
        """The model, or a peft model around it, in training mode."""
        from transformers import AutoModelForCausalLM, Qwen3Config

        config = Qwen3Config(
            vocab_size=self.vocabulary,
            hidden_size=self.hidden,
            num_hidden_layers=self.layers,
            intermediate_size=self.intermediate,
            num_attention_heads=self.heads,
            num_key_value_heads=self.kv_heads,
            head_dim=self.head_dim,
            tie_word_embeddings=self.tied,
            max_position_embeddings=32_768,
            use_cache=False,
        )
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa")
        return (add_lora(model, LoraConfig(), "benchmark") if lora else model).train()

    def parameters(self) -> int:
        """Number of weights."""
        with torch.device("meta"):
            return sum(weight.numel() for weight in self.build().parameters())


@dataclass(frozen=True)
class CorpusShape:
    """Samples of a prompt of varying length and a response of which every token is trained.

    Attributes:
        name: in the tables.
        prompt: least and greatest length of the prompt.
        response: the same of the response.
    """

    name: str
    prompt: tuple[int, int]
    response: tuple[int, int]

    def build(self, samples: int, vocabulary: int, seed: int = 0) -> EncodedCorpus:
        """Random tokens in this shape."""
        rng = np.random.default_rng(seed)
        prompts = rng.integers(*self.prompt, samples, endpoint=True)
        responses = rng.integers(*self.response, samples, endpoint=True)
        return random_corpus(prompts, responses, vocabulary, rng)


# All responses of a corpus make equally many windows of 10, so that rounds of samples begin
# together and a round is a whole number of samples.
SHORT = CorpusShape("150-token samples", prompt=(25, 75), response=(91, 100))
LONG = CorpusShape("1,500-token samples", prompt=(400, 600), response=(991, 1000))
TOY_MODEL = ModelShape(
    vocabulary=96, hidden=16, layers=2, intermediate=32, heads=2, kv_heads=1, head_dim=8
)
TOY_CORPUS = CorpusShape("toy samples", prompt=(4, 8), response=(11, 20))


def random_corpus(
    prompts: Sequence[int] | np.ndarray,
    responses: Sequence[int] | np.ndarray,
    vocabulary: int,
    rng: np.random.Generator,
) -> EncodedCorpus:
    """Samples of random tokens with these lengths."""
    rows = []
    for prompt, response in zip(prompts, responses, strict=True):
        ids = rng.integers(RESERVED, vocabulary, prompt + response)
        labels = ids.copy()
        labels[:prompt] = IGNORE
        rows.append({"input_ids": ids, "labels": labels})
    return EncodedCorpus(rows, np.asarray(responses, np.int64))


def settings(**changes: Any) -> TrainConfig:
    """Settings that a plain loop can follow: float32, a constant learning rate, no warm-up."""
    plain: dict[str, Any] = {
        "precision": "fp32",
        "schedule": "constant",
        "warmup_ratio": 0.0,
        "zero_stage": 0,
        "checkpoint_every": 10**9,
    }
    return TrainConfig.model_validate(plain | changes)


def torch_engine(shape: ModelShape, config: TrainConfig) -> TorchEngine:
    """Our engine around a new model."""
    return TorchEngine(shape.build(lora=config.lora is not None), None, config)


def word_tokenizer(vocabulary: int) -> Any:
    """A tokenizer with one token per number, for libraries that insist on one."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = {f"w{index}": index for index in range(vocabulary)}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="w0")),
        pad_token="w1",
        eos_token="w2",
        chat_template="{% for message in messages %}{{ message['content'] }}{% endfor %}",
    )
