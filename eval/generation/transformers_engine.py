"""Generation with transformers and peft, one prompt at a time.

For small jobs, and to check vLLM against: greedy answers are the same tokens. Sampled answers
repeat with their seed, but are others than vLLM's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from peft import PeftModel
from transformers import GenerationConfig, LogitsProcessor

from eval.generation.generate import Completion, EngineSpec, Request, completed, ranked
from nlirg.models.loading import load_model, load_tokenizer


class _RefuseNaN(LogitsProcessor):
    """Ends a generation whose logits are broken; greedy decoding would go on with token 0."""

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        if scores.isnan().any():
            raise FloatingPointError("the model answered with NaN logits")
        return scores


class TransformersEngine:
    """A `Generator` on a model in this process."""

    def __init__(self, spec: EngineSpec) -> None:
        self._tokenizer = load_tokenizer(spec.tokenizer, chat=False)
        self._spec = spec
        dtype = torch.bfloat16 if spec.device == "gpu" else torch.float32
        model: Any = load_model(spec.model, dtype)
        model.generation_config = GenerationConfig()
        # By number: peft takes no name with a dot in it, such as `nlirg@0.5`.
        self._names = {adapter.name: f"a{i}" for i, adapter in enumerate(spec.adapters)}
        if spec.adapters:
            first, *others = spec.adapters
            name = self._names[first.name]
            model = PeftModel.from_pretrained(model, first.path, adapter_name=name)
            for adapter in others:
                model.load_adapter(adapter.path, adapter_name=self._names[adapter.name])
        self._model = model.to("cuda" if spec.device == "gpu" else "cpu").eval()

    def generate(self, requests: Sequence[Request], adapter: str | None) -> list[Completion]:
        """Answer the requests one after another.

        Raises:
            FloatingPointError: if a logit is NaN.
        """
        if adapter is not None:
            self._model.set_adapter(self._names[adapter])
            return [self._answer(request) for request in requests]
        if not isinstance(self._model, PeftModel):
            return [self._answer(request) for request in requests]
        with self._model.disable_adapter():
            return [self._answer(request) for request in requests]

    def _answer(self, request: Request) -> Completion:
        if request.options:
            return ranked([self._logprob(request.prompt_ids, ids) for ids in request.options])
        return self._complete(request)

    @torch.inference_mode()
    def _logprob(self, prompt: Sequence[int], continuation: Sequence[int]) -> float:
        """Return ln p of a continuation, summed over its tokens in float32 or better."""
        ids = torch.tensor([[*prompt, *continuation]], device=self._model.device)
        # The logits at a token predict the next one: those from the last of the prompt on.
        logits = self._model(input_ids=ids, logits_to_keep=len(continuation) + 1).logits[0, :-1]
        targets = ids[0, len(prompt) :, None]
        logprobs = logits.float().log_softmax(dim=-1).gather(1, targets)
        return float(logprobs.double().sum())

    @torch.inference_mode()
    def _complete(self, request: Request) -> Completion:
        prompt = torch.tensor([request.prompt_ids], device=self._model.device)
        sampling: dict[str, Any] = {"do_sample": False}
        if request.temperature:
            # All tokens, as vLLM does; transformers' default is the 50 likeliest.
            sampling = {"do_sample": True, "temperature": request.temperature, "top_k": 0}
        with torch.random.fork_rng():
            torch.manual_seed(request.seed)
            output = self._model.generate(
                input_ids=prompt,
                attention_mask=torch.ones_like(prompt),
                max_new_tokens=request.max_tokens,
                eos_token_id=list(self._spec.stop_ids),
                pad_token_id=self._spec.stop_ids[0],
                logits_processor=[_RefuseNaN()],
                **sampling,
            )
        ids = output[0, prompt.shape[1] :].tolist()
        return completed(self._tokenizer, ids, ids[-1] in self._spec.stop_ids, self._spec)
