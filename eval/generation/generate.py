"""What is asked of a model and what comes back: prompts, requests, completions, samples.

A model writes an answer, or where a choice question is answered by likelihood says how likely each
of its options is. Everything here is pure; engines implement `Generator`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

from eval.checkers.checkers import check
from eval.checkers.likelihood import rank, ranks_options
from eval.config import EngineName, EvaluateConfig
from eval.generation.adapters import Adapter
from eval.generation.options import Ids, Options, encode_options
from eval.schema.case import Case, Suite
from eval.schema.sample import Sample
from nlirg.chat.encoder import AnswerParts, ChatEncoder
from nlirg.chat.thinking import split_generated
from nlirg.errors import BadRowError, InputError

UNJUDGED = "cannot be judged: "  # how the error of an answer begins that is there but has no score
Key = tuple[Suite, str]  # suite and case id: one sample of one variant
Device = Literal["cpu", "gpu"]
LOOP_REPEATS, LOOP_TOKENS = 3, 24  # see `ends_in_a_loop`


@dataclass(frozen=True)
class Prompt:
    """One case as the model sees it; `error` says why it cannot be rendered.

    `sampled` prompts are answered with a temperature, the others greedily. Those with `options` are
    not answered: their options are ranked.
    """

    case: Case
    text: str
    ids: Ids
    error: str = ""
    sampled: bool = False
    options: Options | None = None

    @property
    def key(self) -> Key:
        """What identifies this prompt's sample within one variant."""
        return self.case.suite, self.case.id

    @property
    def sha256(self) -> str:
        """Hash of the token ids: answers are comparable only where it is equal."""
        return hashlib.sha256(",".join(map(str, self.ids)).encode()).hexdigest()


@dataclass(frozen=True)
class Request:
    """One prompt to complete, or to score as many continuations of as it has `options`.

    A temperature of 0 is greedy decoding.
    """

    key: Key
    prompt_ids: Ids
    max_tokens: int
    temperature: float
    seed: int
    options: tuple[Ids, ...] = ()


@dataclass(frozen=True)
class Completion:
    """One answer; `token_ids` are the generated tokens, end-of-turn included.

    To a request with options it is `option_logprobs` alone: the natural logarithm of each option's
    probability after the prompt, the sum over its tokens.
    """

    text: str
    token_ids: Ids
    finish_reason: Literal["stop", "length", "error"]
    error: str = ""
    option_logprobs: tuple[float, ...] = ()
    reasoning: str = ""


def completed(tokenizer: Any, ids: Sequence[int], stopped: bool, spec: EngineSpec) -> Completion:
    """Return an answer as text, and apart from it the thinking that special tokens set apart.

    Args:
        tokenizer: of the base model.
        ids: that were generated, end-of-turn included.
        stopped: whether the model ended by itself.
        spec: of the engine.
    """
    thinking, answer = (ids[:0], ids) if spec.parts is None else spec.parts.split(ids)
    text, reasoning = (
        str(tokenizer.decode(list(part), skip_special_tokens=True)) for part in (answer, thinking)
    )
    return Completion(text, tuple(ids), "stop" if stopped else "length", reasoning=reasoning)


def ranked(option_logprobs: Sequence[float]) -> Completion:
    """Return the answer to a request with options.

    Raises:
        FloatingPointError: if a log-probability is NaN or infinite.
    """
    if not all(map(math.isfinite, option_logprobs)):
        raise FloatingPointError("the model gives an option a log-probability that is not finite")
    return Completion("", (), "stop", option_logprobs=tuple(option_logprobs))


@dataclass(frozen=True)
class EngineSpec:
    """One engine: a model directory with any number of adapters.

    `tokenizer` is the base model's directory whatever the model, so that all variants read and
    write the same ids. `context` is the most tokens of prompt and answer together. Generation
    stops at any of `stop_ids`; `parts` tell an answer from its thinking.
    """

    model: str
    tokenizer: str
    device: Device
    context: int
    stop_ids: tuple[int, ...]
    adapters: tuple[Adapter, ...] = ()
    tensor_parallel_size: int = 1
    engine: EngineName = "vllm"
    parts: AnswerParts | None = None


class Generator(Protocol):
    """A loaded model with its adapters."""

    def generate(self, requests: Sequence[Request], adapter: str | None) -> list[Completion]:
        """Answer every request, in order, with one adapter or (None) with the model alone.

        Requests with and without options may stand side by side.
        """
        ...


Build = Callable[[EngineSpec], Generator]


def render(chat: ChatEncoder, cases: Sequence[Case]) -> list[Prompt]:
    """Apply the chat template to every case.

    The template suite is sampled, because it asks what a model tends to say.
    """
    prompts = []
    for case in cases:
        messages = [message.model_dump() for message in case.messages]
        try:
            text, ids = chat.prompt(messages)
            ranking = None
            if ranks_options(case):
                values = case.checker.values
                ranking = encode_options(chat, messages, values)
            sampled = case.suite == "template"
            prompts.append(Prompt(case, text, tuple(ids), sampled=sampled, options=ranking))
        except BadRowError as error:
            prompts.append(Prompt(case, "", (), str(error)))
    return prompts


def request_seed(prompt: Prompt, seed: int) -> int:
    """Seed of one prompt's sampling, in [0, 2^31).

    It depends on the prompt and the case, not on the order or the batch: equal prompts of
    different cases get different answers, and a repeated run gets the same ones.
    """
    text = f"{seed}/{prompt.case.suite}/{prompt.case.id}/{prompt.sha256}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


def refusal(prompt: Prompt, config: EvaluateConfig, context: int) -> str:
    """Why a prompt cannot be answered, or "" if it can.

    Args:
        prompt: the rendered case.
        config: holds `max_prompt_tokens`.
        context: tokens the model can hold, prompt and answer together.
    """
    length, limit = len(prompt.ids), min(config.max_prompt_tokens, context - 1)
    if prompt.error:
        return prompt.error
    if length == 0:
        return "the prompt is empty"
    if length > limit:
        return f"the prompt has {length} tokens, the limit is {limit}"
    if prompt.options is not None:
        length += len(prompt.options.lead) + max(map(len, prompt.options.ids))
        if length > context - 1:
            return f"prompt and longest option have {length} tokens, the limit is {context - 1}"
    return ""


def make_request(prompt: Prompt, config: EvaluateConfig, context: int, seed: int) -> Request:
    """Ask for one prompt.

    An answer may be shorter than `max_new_tokens` where the model's context ends before.
    """
    if (options := prompt.options) is not None:
        ids = prompt.ids + options.lead
        return Request(prompt.key, ids, 0, 0.0, request_seed(prompt, seed), options.ids)
    return Request(
        key=prompt.key,
        prompt_ids=prompt.ids,
        max_tokens=min(config.max_new_tokens, context - len(prompt.ids)),
        temperature=config.template_temperature if prompt.sampled else 0.0,
        seed=request_seed(prompt, seed),
    )


def ends_in_a_loop(ids: Sequence[int]) -> bool:
    """Whether the last tokens are one block at least three times over, and at least 24 tokens."""
    for period in range(1, len(ids) // LOOP_REPEATS + 1):
        length = max(LOOP_REPEATS * period, LOOP_TOKENS)
        if length > len(ids):
            return False
        tail = ids[-length:]
        if tail[period:] == tail[:-period]:
            return True
    return False


def make_sample(prompt: Prompt, completion: Completion) -> Sample:
    """Judge one answer; one that cannot be generated or judged is an error and scores 0.

    What stands in thinking is no answer: it is kept beside it.
    """
    if prompt.options is not None and completion.finish_reason != "error":
        per_token = {
            text: logprob / len(ids)
            for text, ids, logprob in zip(
                prompt.options.texts, prompt.options.ids, completion.option_logprobs, strict=True
            )
        }
        return _ranked_sample(prompt, per_token)
    reasoning, answer = split_generated(prompt.text, completion.text)
    thinking = "\n\n".join(part for part in (completion.reasoning, reasoning) if part)
    return _judged(prompt, replace(completion, text=answer), thinking)


def _judged(prompt: Prompt, completion: Completion, reasoning: str) -> Sample:
    """Judge an answer without its thinking."""
    case, finish_reason, error = prompt.case, completion.finish_reason, completion.error
    score, correct = 0.0, False
    format_ok = None if case.format is None else False
    if finish_reason != "error":
        judging = ""
        try:
            if case.format is not None:
                judging = "format: "
                _, format_ok = check(case.format, completion.text, case.reference)
            judging = ""
            score, correct = check(case.checker, completion.text, case.reference)
        except Exception as failure:  # a user's function, or a fault of ours: one answer's error
            finish_reason, error = "error", f"{UNJUDGED}{judging}{_said(failure)}"
    return _sample(
        prompt,
        answer=completion.text,
        reasoning=reasoning,
        finish_reason=finish_reason,
        tokens=len(completion.token_ids),
        runaway=completion.finish_reason == "length" and ends_in_a_loop(completion.token_ids),
        score=score,
        correct=correct,
        format_ok=format_ok,
        error=error,
    )


def _ranked_sample(prompt: Prompt, per_token: dict[str, float]) -> Sample:
    """Return the sample of a case whose options have these mean log-probabilities per token."""
    ranking = rank(per_token, prompt.case.reference)
    return _sample(
        prompt,
        answer=ranking.answer,
        finish_reason="stop",
        tokens=0,
        score=ranking.score,
        correct=ranking.correct,
        option_logprobs=per_token,
    )


def _sample(prompt: Prompt, **judged: Any) -> Sample:
    """Return a sample of the prompt's case."""
    case = prompt.case
    return Sample(
        case_id=case.id,
        root_id=case.root_id or case.id,
        suite=case.suite,
        task_type=case.task_type,
        perturbation=case.perturbation,
        prompt=prompt.text,
        prompt_sha256=prompt.sha256,
        reference=case.reference,
        **judged,
    )


def _said(failure: Exception) -> str:
    """What a checker's failure says, in one line that can be written to a file."""
    kind = "" if isinstance(failure, InputError) else f"{type(failure).__name__}: "
    text = " ".join(f"{kind}{failure}".split())
    return text.encode(errors="replace").decode()


def judge_again(sample: Sample, prompt: Prompt, max_tokens: int) -> Sample | None:
    """Judge a kept answer by its case as it is now.

    Args:
        sample: the answer, judged as the case was.
        prompt: that it answers; one that can be asked.
        max_tokens: what the answer was allowed.

    Returns:
        None if only asking again tells: nothing was answered, another kind of answer is asked for
        now or other options are, or the answer could not be judged before and may or may not have
        ended by itself.
    """
    finish_reason, error = sample.finish_reason, sample.error
    options = () if prompt.options is None else prompt.options.texts
    if set(sample.option_logprobs) != set(options):
        return None
    if options:
        return _ranked_sample(prompt, {text: sample.option_logprobs[text] for text in options})
    if error.startswith(UNJUDGED):
        if sample.tokens >= max_tokens and not sample.runaway:
            return None
        finish_reason, error = ("length" if sample.runaway else "stop"), ""
    if finish_reason == "error":
        return None
    kept = Completion(sample.answer, (), finish_reason, error)
    judged = _judged(prompt, kept, sample.reasoning)
    return judged.model_copy(update={"tokens": sample.tokens, "runaway": sample.runaway})


def error_sample(prompt: Prompt, reason: str) -> Sample:
    """The sample of a prompt that cannot be asked."""
    return make_sample(prompt, Completion("", (), "error", reason))
