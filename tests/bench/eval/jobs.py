"""An engine in a fresh process, what it answered, and what that cost."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from eval.generation.generate import Completion, EngineSpec, Request
from tests.bench.measure import user_seconds

Call = tuple[str | None, tuple[Request, ...]]  # an adapter (None: the base) and what it is asked
Tokens = tuple[int, ...]
BATCH = 32  # prompts of one `generate` of the batched variant


class Done(NamedTuple):
    """What a job cost and said.

    Attributes:
        cold: user CPU seconds of the process until the engine was ready, imports included.
        warm: user CPU seconds of answering.
        wall: wall seconds of answering.
        tokens: generated.
        answers: by adapter, the token ids of every answer.
    """

    cold: float
    warm: float
    wall: float
    tokens: int
    answers: dict[str | None, list[Tokens]]


@dataclass(frozen=True)
class Job:
    """One engine and all it is asked; `options` are changes to vLLM's arguments."""

    spec: EngineSpec
    calls: tuple[Call, ...]
    options: dict[str, Any] = field(default_factory=dict)
    batched: bool = False  # transformers, many prompts at a time


def run_job(job: Job) -> Done:
    """Do a job in a new process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_work, job).result()


def _work(job: Job) -> Done:
    engine = _engine(job)
    cold, wall = user_seconds(), time.perf_counter()
    said = {adapter: engine.generate(requests, adapter) for adapter, requests in job.calls}
    warm, wall = user_seconds() - cold, time.perf_counter() - wall
    answers = {name: [one.token_ids for one in ones] for name, ones in said.items()}
    tokens = sum(len(ids) for ones in answers.values() for ids in ones)
    return Done(cold, warm, wall, tokens, answers)


def _engine(job: Job) -> Any:
    from eval.generation import vllm_engine
    from eval.generation.engines import build_engine

    if job.batched:
        return Batched(job.spec)
    if job.options:
        ours = vllm_engine.engine_options
        vllm_engine.engine_options = lambda spec: ours(spec) | job.options
    return build_engine(job.spec)


class Batched:
    """Greedy `generate` of transformers on left-padded batches, prompts of like length together."""

    def __init__(self, spec: EngineSpec) -> None:
        from eval.generation.transformers_engine import TransformersEngine

        self._engine = TransformersEngine(spec)
        self._stop_ids = list(spec.stop_ids)

    def generate(self, requests: Sequence[Request], adapter: str | None) -> list[Completion]:
        """Answer in order."""
        model = self._engine._model
        order = sorted(range(len(requests)), key=lambda i: len(requests[i].prompt_ids))
        found: dict[int, Tokens] = {}
        if adapter is not None:
            model.set_adapter(adapter)
        else:
            model.base_model.disable_adapter_layers()
        for start in range(0, len(order), BATCH):
            batch = order[start : start + BATCH]
            found |= dict(zip(batch, self._batch(model, [requests[i] for i in batch]), strict=True))
        model.base_model.enable_adapter_layers()
        return [Completion("", found[i], "stop") for i in range(len(requests))]

    def _batch(self, model: Any, requests: Sequence[Request]) -> list[Tokens]:
        import torch

        width = max(len(request.prompt_ids) for request in requests)
        ids = torch.zeros(len(requests), width, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, request in enumerate(requests):
            ids[row, width - len(request.prompt_ids) :] = torch.tensor(request.prompt_ids)
            mask[row, width - len(request.prompt_ids) :] = 1
        with torch.inference_mode():
            output = model.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=requests[0].max_tokens,
                eos_token_id=self._stop_ids,
                pad_token_id=self._stop_ids[0],
                do_sample=False,
            )
        return [self._until_stop(row) for row in output[:, width:].tolist()]

    def _until_stop(self, ids: list[int]) -> Tokens:
        ends = [i for i, token in enumerate(ids) if token in self._stop_ids]
        return tuple(ids[: ends[0] + 1] if ends else ids)
