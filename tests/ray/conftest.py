"""One local Ray cluster for every test of this folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from cluster.config import ClusterConfig
from cluster.session import connect, disconnect


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """The cluster that a run without an address starts for itself."""
    connect(ClusterConfig())
    yield
    disconnect()


@pytest.fixture(scope="session")
def base(tiny_tokenizer, tmp_path_factory) -> Path:
    """A random Qwen3 of a head size that vLLM has on CPU."""
    path = tmp_path_factory.mktemp("base")
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=len(tiny_tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        initializer_range=0.2,
        bos_token_id=None,
        eos_token_id=tiny_tokenizer.eos_token_id,
        pad_token_id=tiny_tokenizer.pad_token_id,
    )
    Qwen3ForCausalLM(config).save_pretrained(path)
    tiny_tokenizer.save_pretrained(path)
    return path
