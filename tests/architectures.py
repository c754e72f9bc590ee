"""Random models of the architectures that people fine-tune, a few thousand parameters each."""

import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import PreTrainedTokenizerFast

from nlirg.config.training import LoraConfig
from nlirg.models.export import export_model
from nlirg.models.loading import auto_class, load_model, load_tokenizer
from nlirg.models.lora import add_lora

TEXT = {
    "hidden_size": 128,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
    "initializer_range": 0.1,
}
GROUPED = {**TEXT, "num_key_value_heads": 2, "head_dim": 32}  # the least that vLLM takes on a CPU
MOE = {**GROUPED, "moe_intermediate_size": 32, "num_experts": 4, "num_experts_per_tok": 2}
QWEN_VISION = {
    "depth": 1,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_heads": 4,
    "out_hidden_size": 128,
}
GLM = {**GROUPED, "pad_token_id": 0}
VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "image_size": 28,
    "patch_size": 14,
}
QWEN3_5 = {
    **GROUPED,
    "layer_types": ["linear_attention", "full_attention"],
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}

# Name -> class of the configuration and what it is given.
SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", GROUPED),
    "qwen2": ("Qwen2Config", {**TEXT, "num_key_value_heads": 2}),
    "qwen3": ("Qwen3Config", GROUPED),
    "mistral": ("MistralConfig", GROUPED),
    "gemma2": ("Gemma2Config", {**GROUPED, "sliding_window": 64}),
    "granite": ("GraniteConfig", {**TEXT, "num_key_value_heads": 2}),
    "olmo2": ("Olmo2Config", {**TEXT, "num_key_value_heads": 2}),
    "phi3": ("Phi3Config", {**TEXT, "num_key_value_heads": 2, "pad_token_id": 0}),
    "qwen3_moe": ("Qwen3MoeConfig", MOE),
    "qwen2_moe": (
        "Qwen2MoeConfig",
        {**MOE, "shared_expert_intermediate_size": 32, "num_key_value_heads": 4},
    ),
    "mixtral": ("MixtralConfig", {**GROUPED, "num_local_experts": 4}),
    "gemma3_text": ("Gemma3TextConfig", {**GROUPED, "sliding_window": 64}),
    "gemma3": (
        "Gemma3Config",
        {
            "text_config": {**GROUPED, "sliding_window": 64},
            "vision_config": VISION,
            "mm_tokens_per_image": 4,
        },
    ),
    "mistral3": (
        "Mistral3Config",
        {
            "text_config": {"model_type": "mistral", **GROUPED},
            "vision_config": {"model_type": "pixtral", **VISION, "head_dim": 8},
        },
    ),
    "qwen2_5_vl": (
        "Qwen2_5_VLConfig",
        {
            "text_config": {
                **TEXT,
                "num_key_value_heads": 2,
                "rope_parameters": {
                    "rope_type": "default",
                    "rope_theta": 1e4,
                    "mrope_section": [4, 6, 6],
                },
            },
            "vision_config": {**QWEN_VISION, "fullatt_block_indexes": [0]},
        },
    ),
    "glm": ("GlmConfig", GLM),
    "glm4": ("Glm4Config", GLM),
    "qwen3_5": ("Qwen3_5TextConfig", QWEN3_5),
    "qwen3_5_seeing": (
        "Qwen3_5Config",
        {
            "text_config": QWEN3_5,
            "vision_config": {**QWEN_VISION, "num_position_embeddings": 16},
            "architectures": ["Qwen3_5ForConditionalGeneration"],
        },
    ),
    "gpt_neox": ("GPTNeoXConfig", TEXT),
    "falcon": (
        "FalconConfig",
        {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "alibi": False},
    ),
    "starcoder2": ("Starcoder2Config", {**TEXT, "num_key_value_heads": 2}),
    "gpt2": ("GPT2Config", {"n_embd": 128, "n_layer": 2, "n_head": 4, "n_positions": 256}),
}


def configuration(name: str, tokenizer: PreTrainedTokenizerFast) -> Any:
    """The configuration of one of `SETTINGS`, with the vocabulary of a tokenizer."""
    kind, given = SETTINGS[name]
    words = {"vocab_size": len(tokenizer), "eos_token_id": tokenizer.eos_token_id}
    words |= {"bos_token_id": tokenizer.pad_token_id, "pad_token_id": tokenizer.pad_token_id}
    if "text_config" in given:
        last = len(tokenizer) - 1  # stands for images, which no text holds
        given = {**given, "text_config": {**given["text_config"], **words}}
        words = dict.fromkeys(("image_token_id", "boi_token_id", "eoi_token_id"), last)
    return getattr(transformers, kind)(**{**given, **words})


def save_architecture(path: Path, name: str, tokenizer: PreTrainedTokenizerFast) -> Path:
    """Save a random model of one of `SETTINGS` with its tokenizer, as a user's would be."""
    torch.manual_seed(0)
    config = configuration(name, tokenizer)
    model = auto_class(config).from_config(config)
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def save_lora(base: Path, folder: Path, rank: int) -> None:
    """An adapter as training would leave it, far from doing nothing."""
    config = LoraConfig(rank=rank, alpha=2.0 * rank)
    adapted = add_lora(load_model(str(base), torch.float32), config, str(base))
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.2 / rank**0.5)
    export_model(adapted, load_tokenizer(str(base)), folder)


def add_foreign_files(folder: Path) -> None:
    """Add what Mistral publishes beside a model: its weights once more, and another tokenizer."""
    tensors = load_file(folder / "model.safetensors")
    save_file({f"w.{k}": t for k, t in tensors.items()}, folder / "consolidated.safetensors")
    (folder / "params.json").write_text("{}")
    [package] = find_spec("mistral_common").submodule_search_locations
    tokenizer = min(Path(package).glob("data/tekken_*.json"))
    shutil.copy(tokenizer, folder / "tekken.json")
