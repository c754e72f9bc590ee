"""Random models, small enough for every test."""

from pathlib import Path

import torch
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM


def save_qwen3(
    path: Path, tokenizer: PreTrainedTokenizerFast, *, head_dim: int, initializer_range: float
) -> Path:
    """A random Qwen3 of two layers and four heads with its tokenizer, as a user's would be saved.

    Args:
        path: an empty folder.
        tokenizer: has the tokens that end a turn and fill a batch.
        head_dim: width of a head; all other widths follow from it.
        initializer_range: the larger, the further predictions are from uniform.
    """
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=4 * head_dim,
        intermediate_size=8 * head_dim,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=head_dim,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        initializer_range=initializer_range,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    Qwen3ForCausalLM(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path
