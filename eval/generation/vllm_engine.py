"""Generation with vLLM, in the process that creates the engine.

The only module that imports vllm, and only inside functions: vLLM reads its environment variables
when it is imported, so the process must have been started with `engine_environment`.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Sequence
from itertools import islice
from typing import Any

from transformers import AutoConfig

from eval.generation.adapters import Adapter
from eval.generation.generate import Completion, Device, EngineSpec, Request, completed, ranked
from eval.generation.plain_folder import plain_folders
from nlirg.errors import InputError
from nlirg.models.model_card import VLLM_RANKS, vllm_rank

CPU_CACHE_BYTES = 64 << 20
CPU_SEQUENCES = 128
CPU_BATCH_TOKENS = 1024
# In main memory at once: others are read again when their chunks come, variant after variant.
ADAPTERS_AT_HAND = 4
CHUNK_REQUESTS: dict[Device, int] = {"cpu": CPU_SEQUENCES, "gpu": 1024}


def engine_environment(device: Device) -> dict[str, str]:
    """Environment variables of a process that will hold an engine."""
    common = {
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": "ERROR",
        "TOKENIZERS_PARALLELISM": "false",
    }
    if device == "gpu":
        return common
    # One thread: several busy threads on few cores wait for each other most of the time.
    # Without compilation an engine is ready in seconds.
    return common | {
        "OMP_NUM_THREADS": "1",
        "TORCHDYNAMO_DISABLE": "1",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    }


def engine_options(spec: EngineSpec) -> dict[str, Any]:
    """Arguments of `vllm.LLM`; what differs between CPU and GPU differs here."""
    options: dict[str, Any] = {
        "model": spec.model,
        "tokenizer": spec.tokenizer,
        "max_model_len": spec.context,
        "load_format": "safetensors",
        "trust_remote_code": False,
        # A model's own generation_config.json may stop or penalize otherwise than its base's.
        "generation_config": "vllm",
        "seed": 0,
    }
    if spec.device == "gpu":
        # LoRA kernels refuse float32.
        options |= {
            "dtype": "bfloat16",
            "gpu_memory_utilization": 0.9,
            "tensor_parallel_size": spec.tensor_parallel_size,
        }
    else:
        options |= {
            "dtype": "float32",
            "enforce_eager": True,
            "kv_cache_memory_bytes": cpu_cache_bytes(spec),
            "max_num_seqs": CPU_SEQUENCES,
            # A prompt prefilled in parts cannot be sampled with a seed on CPU.
            "enable_chunked_prefill": False,
            "max_num_batched_tokens": max(CPU_BATCH_TOKENS, spec.context),
        }
    if spec.adapters:
        # The modules must be named: otherwise log-probabilities of prompts crash on CPU.
        options |= {
            "enable_lora": True,
            "max_loras": 1,  # a chunk is of one variant, so that one slot of the device is enough
            "max_cpu_loras": min(len(spec.adapters), ADAPTERS_AT_HAND),
            "max_lora_rank": lora_rank_limit(spec.adapters),
            "lora_target_modules": sorted({t for a in spec.adapters for t in a.target_modules}),
        }
    return options


def lora_rank_limit(adapters: Sequence[Adapter]) -> int:
    """The smallest rank vLLM allows that holds every adapter; larger ones only cost memory.

    Raises:
        InputError: naming the adapter whose rank is too large.
    """
    largest = max(adapters, key=lambda adapter: adapter.rank)
    if (limit := vllm_rank(largest.rank)) is None:
        raise InputError(f"{largest.path}: rank {largest.rank} is above the limit {VLLM_RANKS[-1]}")
    return limit


def cpu_cache_bytes(spec: EngineSpec) -> int:
    """Key/value cache on CPU: at least room for two sequences of full length."""
    config = AutoConfig.from_pretrained(spec.model, local_files_only=True).get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    numbers = 2 * config.num_hidden_layers * heads * width
    return max(CPU_CACHE_BYTES, 2 * spec.context * numbers * 4)


class VllmEngine:
    """A `Generator` on one vLLM engine.

    After any exception the engine must be thrown away with its process: a failed request may
    leave it hanging, and a NaN stays in its cache.
    """

    def __init__(self, spec: EngineSpec) -> None:
        # Importing vllm creates millions of objects that live for ever; collecting them over and
        # over takes longer than the import.
        gc.disable()
        from vllm import LLM
        from vllm.lora.request import LoRARequest

        with plain_folders(spec) as plain:
            self._llm = LLM(**engine_options(plain))
            self._tokenizer: Any = self._llm.get_tokenizer()
        gc.freeze()
        gc.enable()
        self._spec = spec
        self._adapters: dict[str | None, LoRARequest | None] = {None: None}
        for number, adapter in enumerate(spec.adapters, start=1):
            request = LoRARequest(adapter.name, number, adapter.path)
            # Refusals are raised here; inside generate() they would hang the engine.
            self._llm.llm_engine.add_lora(request)
            self._adapters[adapter.name] = request

    def generate(self, requests: Sequence[Request], adapter: str | None) -> list[Completion]:
        """Answer the requests in one call, so that base and adapter never share a batch.

        Raises:
            FloatingPointError: if a log-probability is NaN.
        """
        from vllm import TokensPrompt

        asked = [self._asked(request) for request in requests]
        outputs = iter(
            self._llm.generate(
                [TokensPrompt(prompt_token_ids=ids) for part in asked for ids, _ in part],
                [settings for part in asked for _, settings in part],
                lora_request=self._adapters[adapter],
                use_tqdm=False,
            )
        )
        answers = [list(islice(outputs, len(part))) for part in asked]
        return [
            ranked(list(map(_continuation_logprob, answer, request.options)))
            if request.options
            else self._completion(answer[0].outputs[0])
            for request, answer in zip(requests, answers, strict=True)
        ]

    def _asked(self, request: Request) -> list[tuple[list[int], Any]]:
        """Return the prompts of one request with their `vllm.SamplingParams`: one an option."""
        from vllm import SamplingParams

        if request.options:
            # The whole text is a prompt, and the one token that must be generated is ignored.
            scoring = SamplingParams(
                max_tokens=1,
                temperature=0.0,
                prompt_logprobs=0,  # of the prompt's own tokens; such requests read no prefix cache
                flat_logprobs=True,
                detokenize=False,
            )
            return [([*request.prompt_ids, *option], scoring) for option in request.options]
        generating = SamplingParams(
            max_tokens=request.max_tokens,
            temperature=request.temperature,
            seed=request.seed,
            stop_token_ids=list(self._spec.stop_ids),
            logprobs=0,  # of the chosen token: the only sign of NaN
            detokenize=False,  # vLLM's text depends on the end of the prompt
        )
        return [(list(request.prompt_ids), generating)]

    def _completion(self, output: Any) -> Completion:
        """Read one `vllm.CompletionOutput`.

        Raises:
            FloatingPointError: if its log-probability is missing or NaN.
            RuntimeError: if the engine ended the answer for a reason of its own.
        """
        if output.cumulative_logprob is None or math.isnan(output.cumulative_logprob):
            raise FloatingPointError("the engine answered with a NaN log-probability")
        if output.finish_reason not in ("stop", "length"):
            raise RuntimeError(f"the engine ended an answer with {output.finish_reason!r}")
        stopped = output.finish_reason == "stop"
        return completed(self._tokenizer, tuple(output.token_ids), stopped, self._spec)


def _continuation_logprob(output: Any, continuation: Sequence[int]) -> float:
    """Sum the log-probabilities of the last tokens of a scored `vllm.RequestOutput`'s prompt."""
    return math.fsum(output.prompt_logprobs.logprobs[-len(continuation) :])
