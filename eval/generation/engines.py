"""Which engine a specification asks for, and how much of work it takes at a time."""

from __future__ import annotations

from eval.generation.generate import EngineSpec, Generator
from eval.generation.vllm_engine import CHUNK_REQUESTS, VllmEngine

TRANSFORMERS_CHUNK = 16  # one after another: a chunk is kept when its last answer is there


def build_engine(spec: EngineSpec) -> Generator:
    """Load the model; in the process that is to hold it."""
    if spec.engine == "transformers":
        # torch and peft take seconds to import, and the driver needs neither.
        from eval.generation.transformers_engine import TransformersEngine

        return TransformersEngine(spec)
    return VllmEngine(spec)


def chunk_requests(spec: EngineSpec) -> int:
    """Requests that one call should bring: enough to keep the engine busy."""
    return TRANSFORMERS_CHUNK if spec.engine == "transformers" else CHUNK_REQUESTS[spec.device]
