"""What the installed vLLM can run, told without importing it.

`tests/ray/test_architectures.py` holds it against real engines.
"""

from __future__ import annotations

import ast
import json
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from eval.generation.adapters import Adapter
from nlirg.errors import InputError
from nlirg.models.loading import model_skeleton
from nlirg.models.model_card import VLLM_RANKS, vllm_rank

ATTENTION = frozenset({"q_proj", "k_proj", "v_proj", "o_proj"})
DENSE = ATTENTION | {"gate_proj", "up_proj", "down_proj"}
# Layers on which vLLM's adapters were compared with peft's and found equal, by architecture. An
# adapter on others may be ignored in part without a word, so that it is merged instead.
SERVED: dict[str, frozenset[str]] = {
    **dict.fromkeys(
        (
            "Gemma2ForCausalLM",
            "Gemma3ForCausalLM",
            "GraniteForCausalLM",
            "LlamaForCausalLM",
            "MistralForCausalLM",
            "Olmo2ForCausalLM",
            "Qwen2ForCausalLM",
            "Qwen3ForCausalLM",
        ),
        DENSE,
    ),
    "GlmForCausalLM": ATTENTION | {"gate_up_proj", "down_proj"},
    "GPTNeoXForCausalLM": frozenset({"query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"}),
    "Phi3ForCausalLM": frozenset({"qkv_proj", "o_proj", "gate_up_proj", "down_proj"}),
    "Starcoder2ForCausalLM": ATTENTION | {"c_fc", "c_proj"},
}

# Tables of `vllm.model_executor.models.registry`: architecture -> module and class.
TEXT_MODELS = ("_TEXT_GENERATION_MODELS", "_TRANSFORMERS_SUPPORTED_MODELS")
SEEING_MODELS = "_MULTIMODAL_MODELS"


def adapter_obstacle(adapter: Adapter, base: Path) -> str:
    """Say why vLLM cannot serve an adapter as one; empty if it can.

    Args:
        adapter: a checked one.
        base: directory of the model it was trained on.
    """
    if vllm_rank(adapter.rank) is None:
        return f"vLLM takes no adapter of rank {adapter.rank} (at most {VLLM_RANKS[-1]})"
    architecture = type(model_skeleton(str(base))).__name__
    served = SERVED.get(architecture, frozenset())
    other = sorted(set(adapter.target_modules) - served)
    if other:
        return f"vLLM's adapters are not known to fit {', '.join(other)} of {architecture}"
    return ""


def engine_obstacle(base: Path) -> str:
    """Say why the installed vLLM cannot run a model; empty if nothing is known against it.

    Args:
        base: directory of the model.

    Raises:
        InputError: if the model cannot be built at all.
    """
    known, seeing = _architectures()
    if not known:
        return "vLLM is not installed"
    model: Any = model_skeleton(str(base))
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    # A trained model's own is its class's; the base's may be a wider one.
    for name in sorted({type(model).__name__, *(config.get("architectures") or ())}):
        if name not in known and not model.is_backend_compatible():
            return f"the installed vLLM does not know {name}"
        if name in seeing and find_spec("torchvision") is None:
            return f"vLLM runs {name} only with the package torchvision, which is not installed"
    return ""


def require_engine(base: Path, name: str) -> None:
    """Refuse a model that the installed vLLM cannot run.

    Raises:
        InputError: with the remedy.
    """
    if obstacle := engine_obstacle(base):
        raise InputError(
            f"model {name}: {obstacle}; set evaluate.engine=transformers and leave "
            "evaluate.lm_eval empty"
        )


@cache
def _architectures() -> tuple[frozenset[str], frozenset[str]]:
    """Read which architectures vLLM knows, and which of them lie in one module with one that sees.

    Both are empty without vLLM.
    """
    found = find_spec("vllm")
    if found is None or not found.submodule_search_locations:
        return frozenset(), frozenset()
    registry = Path(found.submodule_search_locations[0], "model_executor/models/registry.py")
    tables: dict[str, dict[str, str]] = {}
    for node in ast.parse(registry.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            name = ast.unparse(node.targets[0])
            if name in (*TEXT_MODELS, SEEING_MODELS):
                table = ast.literal_eval(node.value)
                tables[name] = {key: place[0] for key, place in table.items()}
    modules = {name: module for table in tables.values() for name, module in table.items()}
    see = set(tables.get(SEEING_MODELS, {}).values())
    return frozenset(modules), frozenset(n for n, module in modules.items() if module in see)
