"""Loading models and tokenizers, with every way it can fail as one clear line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import jinja2
import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoTokenizer,
)
from transformers.utils import is_flash_attn_2_available

from nlirg.errors import InputError, first_line
from nlirg.models.weight_files import FOREIGN_WEIGHTS, weight_files

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

# Everything a model needs; pickled weights (*.bin, *.pt) can run code and are not fetched.
HUB_FILES = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"]

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

# FlashAttention-2 runs on Ampere and later.
FLASH_CAPABILITY = (8, 0)


def load_tokenizer(
    path: str, *, chat: bool = True, template: str | None = None
) -> PreTrainedTokenizerBase:
    """Load a tokenizer.

    Args:
        path: a local directory or a Hugging Face hub id.
        chat: whether it must render chats.
        template: chat template that replaces its own.

    Raises:
        InputError: if there is no such model or tokenizer, the template is no template, or it
            lacks a chat template or an end-of-sequence token.
    """
    directory = model_directory(path)
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            directory,
            trust_remote_code=False,
            local_files_only=True,
            # Beside it, Mistral's own tekken.json knows no chat template.
            mistral_format=False if (directory / "tokenizer.json").is_file() else None,
        )
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"model {path}: cannot load its tokenizer: {first_line(error)}") from None
    if template is not None:
        _set_template(tokenizer, template)
    if chat and not tokenizer.chat_template:
        raise InputError(
            f"model {path}: its tokenizer has no chat template; set template in the recipe "
            "to a file with one, or use an instruction-tuned model"
        )
    if tokenizer.eos_token_id is None:
        raise InputError(
            f"model {path}: its tokenizer has no end-of-sequence token; set eos_token in "
            "tokenizer_config.json"
        )
    return tokenizer


def _set_template(tokenizer: PreTrainedTokenizerBase, template: str) -> None:
    tokenizer.chat_template = template
    try:
        tokenizer.apply_chat_template([{"role": "user", "content": "1"}], tokenize=False)
    except jinja2.TemplateSyntaxError as error:
        raise InputError(f"template: line {error.lineno}: {error.message}") from None
    except (jinja2.TemplateError, ArithmeticError, LookupError, TypeError, ValueError):
        pass  # what it refuses is told of the rows it refuses


def load_model(
    path: str, dtype: torch.dtype | Literal["auto"], attention: str = "auto"
) -> PreTrainedModel:
    """Load a causal language model from safetensors; code shipped with a model never runs.

    Args:
        path: a local directory or a Hugging Face hub id.
        dtype: of the parameters; "auto" keeps the dtype they are stored in.
        attention: see `attention_implementation`.

    Raises:
        InputError: if there is no such model, its weights are missing, incomplete, damaged or not
            safetensors, its architecture is unknown, or it cannot have that attention here.
    """
    directory = model_directory(path)
    implementation = attention_implementation(attention, dtype)
    _check_files(path, directory)
    try:
        loaded: Any = auto_class(_config(directory)).from_pretrained(
            directory,
            dtype=dtype,
            attn_implementation=implementation,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        raise InputError(f"model {path}: cannot load it: {first_line(error)}") from None
    model, loading = loaded
    # transformers fills missing weights with random numbers and only warns.
    if loading["missing_keys"]:
        names = sorted(loading["missing_keys"])
        raise InputError(f"model {path}: {len(names)} weights are missing, e.g. {names[0]}")
    _restore_rotary(model)
    return model


def model_skeleton(path: str) -> PreTrainedModel:
    """Build a model without weights (on torch's meta device), by its configuration alone.

    Raises:
        InputError: if there is no such model or its architecture is unknown.
    """
    try:
        config = _config(model_directory(path))
        with torch.device("meta"):
            skeleton: PreTrainedModel = auto_class(config).from_config(config)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        raise InputError(f"model {path}: cannot load it: {first_line(error)}") from None
    return skeleton


def _config(directory: Path) -> PretrainedConfig:
    return AutoConfig.from_pretrained(directory, trust_remote_code=False, local_files_only=True)


def auto_class(config: PretrainedConfig) -> Any:
    """Return transformers' class for a model that writes text, and may see.

    The architecture that the model was saved as decides, where both classes know such a model.
    """
    both: list[Any] = [AutoModelForCausalLM, AutoModelForImageTextToText]
    known = [kind for kind in both if type(config) in kind._model_mapping]
    for kind in known:
        if kind._model_mapping[type(config)].__name__ in (config.architectures or ()):
            return kind
    return (known or both)[0]


def check_vocabulary(key: str, other: str, tokenizer: PreTrainedTokenizerBase) -> None:
    """Check that another model's tokens are the model's.

    Args:
        key: the recipe's key that names the other model.
        other: a local directory or a Hugging Face hub id.
        tokenizer: the model's.

    Raises:
        InputError: if they are not.
    """
    if load_tokenizer(other, chat=False).get_vocab() != tokenizer.get_vocab():
        raise InputError(
            f"{key} {other}: its vocabulary differs from the model's, so its losses are "
            "of other tokens"
        )


def context_length(config: PretrainedConfig) -> int | None:
    """Return the tokens that a model was made to read at once; None if it does not say.

    Args:
        config: of the model; one that sees and hears has another one for text inside.
    """
    length = getattr(config.get_text_config(), "max_position_embeddings", None)
    return None if length is None else int(length)


def _restore_rotary(model: Any) -> None:
    """Give rotary frequencies back in float32 where they were built in half precision.

    DeepSpeed's sharded construction (ZeRO 3) does so; positions would then be off by more and more,
    and the model that is trained would not be the one that loads from its export.
    """
    for module in model.modules():
        if "RotaryEmbedding" not in type(module).__name__:
            continue
        halves = [name for name, b in module.named_buffers(recurse=False) if b.element_size() == 2]
        for name in halves:
            setattr(module, name, getattr(module, name).float())
        if halves:
            model._init_weights(module)


def attention_implementation(attention: str, dtype: torch.dtype | Literal["auto"]) -> str | None:
    """Choose transformers' attention implementation for this process's device.

    Args:
        attention: `eager`, `sdpa`, `flash_attention_2`, or `auto`: FlashAttention-2 where it can
            run, else what transformers prefers for the model (`sdpa`, or `eager` without it).
        dtype: of the parameters.

    Raises:
        InputError: if `flash_attention_2` is asked for and cannot run.
    """
    if attention not in ("auto", "flash_attention_2"):
        return attention
    obstacle = _flash_obstacle(dtype)
    if obstacle is None:
        return "flash_attention_2"
    if attention == "auto":
        return None
    raise InputError(f"train.attention: flash_attention_2 needs {obstacle}; use auto or sdpa")


def _flash_obstacle(dtype: torch.dtype | Literal["auto"]) -> str | None:
    if not torch.cuda.is_available() or torch.cuda.get_device_capability() < FLASH_CAPABILITY:
        return "a CUDA device of compute capability 8.0 or more"
    if dtype not in (torch.bfloat16, torch.float16):
        return "train.precision bf16 or fp16"
    if not is_flash_attn_2_available():
        return "the package flash-attn"
    return None


def check_precision(precision: str) -> None:
    """Check that this process's device can train in a precision (`fp32`, `bf16` or `fp16`).

    Raises:
        InputError: for bf16 on a GPU without it, and for fp16 without a GPU.
    """
    if precision == "bf16" and torch.cuda.is_available():
        if not torch.cuda.is_bf16_supported(including_emulation=False):
            name = torch.cuda.get_device_name()
            raise InputError(f"train.precision: {name} has no bf16; use fp16 or fp32")
    elif precision == "fp16" and not torch.cuda.is_available():
        raise InputError("train.precision: DeepSpeed has no fp16 on a CPU; use fp32 or bf16")


def check_model(path: str, *, chat: bool = True, template: str | None = None) -> None:
    """Check that a model can be used, without loading its weights.

    Args:
        path: a local directory or a Hugging Face hub id.
        chat: whether it must render chats.
        template: chat template that replaces its own.

    Raises:
        InputError: as `load_tokenizer`, or if `config.json` or safetensors weights are missing.
    """
    _check_files(path, model_directory(path))
    load_tokenizer(path, chat=chat, template=template)


def model_directory(path: str) -> Path:
    """Return the local directory of a model, fetching a hub id if it is not in the cache.

    Raises:
        InputError: if there is neither such a directory nor such a model on the hub.
    """
    local = Path(path).expanduser()
    if local.is_dir():
        return local
    if local.exists():
        raise InputError(f"model {path}: is a file; give the model's directory")
    if path.startswith((".", "/", "~")) or path.count("/") != 1:
        raise InputError(f"model {path}: no such directory (a hub id is owner/name)")
    try:
        return Path(
            snapshot_download(path, allow_patterns=HUB_FILES, ignore_patterns=FOREIGN_WEIGHTS)
        )
    except (OSError, HFValidationError):  # the hub's own errors are OSErrors
        raise InputError(
            f"model {path}: no such directory, and no such model in the Hugging Face cache or on "
            "the hub (as far as it can be reached)"
        ) from None


def _check_files(path: str, directory: Path) -> None:
    try:
        json.loads((directory / "config.json").read_text(encoding="utf-8"))
    except OSError:
        raise InputError(f"model {path}: has no config.json, so is not a model") from None
    except ValueError as error:
        raise InputError(f"model {path}: config.json is not JSON: {error}") from None
    if not weight_files(directory):
        raise InputError(
            f"model {path}: has no *.safetensors weights (pickled *.bin weights can run code and "
            "are refused; convert them with transformers' save_pretrained)"
        )
