"""Loading models and tokenizers, with every way it can fail as one clear line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer

from nlirg.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# Everything a model needs; pickled weights (*.bin, *.pt) can run code and are not fetched.
HUB_FILES = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"]


def load_tokenizer(path: str) -> PreTrainedTokenizerBase:
    """Load a tokenizer that can render chats.

    Args:
        path: a local directory or a Hugging Face hub id.

    Raises:
        InputError: if there is no such model or tokenizer, or it lacks a chat template or an
            end-of-sequence token.
    """
    directory = model_directory(path)
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            directory, trust_remote_code=False, local_files_only=True
        )
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"model {path}: cannot load its tokenizer: {_one_line(error)}") from None
    if not tokenizer.chat_template:
        raise InputError(
            f"model {path}: its tokenizer has no chat template; add chat_template.jinja to the "
            "model directory, or use an instruction-tuned model"
        )
    if tokenizer.eos_token_id is None:
        raise InputError(
            f"model {path}: its tokenizer has no end-of-sequence token; set eos_token in "
            "tokenizer_config.json"
        )
    return tokenizer


def load_model(path: str, dtype: torch.dtype) -> PreTrainedModel:
    """Load a causal language model from safetensors; code shipped with a model never runs.

    Args:
        path: a local directory or a Hugging Face hub id.
        dtype: of the parameters.

    Raises:
        InputError: if there is no such model, its weights are missing, incomplete, damaged or not
            safetensors, or its architecture is unknown.
    """
    directory = model_directory(path)
    _check_files(path, directory)
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            directory,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise InputError(f"model {path}: cannot load it: {_one_line(error)}") from None
    model, loading = loaded
    # transformers fills missing weights with random numbers and only warns.
    if loading["missing_keys"]:
        names = sorted(loading["missing_keys"])
        raise InputError(f"model {path}: {len(names)} weights are missing, e.g. {names[0]}")
    return model


def check_model(path: str) -> None:
    """Check that a model can be used, without loading its weights.

    Args:
        path: a local directory or a Hugging Face hub id.

    Raises:
        InputError: as `load_tokenizer`, or if `config.json` or safetensors weights are missing.
    """
    _check_files(path, model_directory(path))
    load_tokenizer(path)


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
        return Path(snapshot_download(path, allow_patterns=HUB_FILES))
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
    if not any(directory.glob("*.safetensors")):
        raise InputError(
            f"model {path}: has no *.safetensors weights (pickled *.bin weights can run code and "
            "are refused; convert them with transformers' save_pretrained)"
        )


def _one_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
