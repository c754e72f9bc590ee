"""Which models keep documents apart that stand in one row."""

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    GPT2Config,
    LlamaConfig,
    MambaConfig,
    OPTConfig,
    Phi3Config,
)

from nlirg.forward.tapped_model import TappedModel

SMALL = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


@pytest.mark.parametrize(
    ("config", "apart"),
    [
        (LlamaConfig(**SMALL, intermediate_size=64), True),
        (Phi3Config(**SMALL, **IDS, intermediate_size=64), True),
        (GPT2Config(vocab_size=50, n_embd=32, n_layer=2, n_head=4), True),
        (OPTConfig(**SMALL, ffn_dim=64, word_embed_proj_dim=32), False),
        (BloomConfig(vocab_size=50, hidden_size=32, n_layer=2, n_head=4), False),
        (MambaConfig(vocab_size=50, hidden_size=32, num_hidden_layers=2), False),
    ],
    ids=lambda value: getattr(value, "model_type", None),
)
def test_documents_are_kept_apart_by_positions_alone(config, apart):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    assert TappedModel(model, model).keeps_apart(torch.device("cpu")) == apart
