"""Settings of the evaluation: the recipe's `evaluate` section."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from eval.cases.perturbations import known_perturbation
from nlirg.section import Section

Share = Annotated[float, Field(ge=0, le=1)]
EngineName = Literal["vllm", "transformers"]
Perturbation = Annotated[str, AfterValidator(known_perturbation)]


STRONGEST_SCALE = 1.5  # beyond it weights lie far outside everything that was trained


def known_scales(value: tuple[float, ...]) -> tuple[float, ...]:
    """Return each scale once, the weakest first; digits beyond the twelfth are rounding.

    Raises:
        ValueError: if one is out of range.
    """
    wrong = [scale for scale in value if not 0 < scale <= STRONGEST_SCALE]
    if wrong:
        raise ValueError(
            f"{wrong[0]:g} is no scale: give numbers above 0 and up to {STRONGEST_SCALE:g} "
            "(0 is the base model, 1 the arm itself; both are always there)"
        )
    return tuple(sorted({float(f"{scale:.12g}") for scale in value}))


Scales = Annotated[tuple[float, ...], AfterValidator(known_scales)]


def _plain_url(value: str) -> str:
    """An http(s) URL without a user or password, which would end up in logs and recipes."""
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("give a URL such as http://localhost:8000/v1")
    if "@" in parts.netloc or parts.query:
        raise ValueError("no user, password or query in it; put a key into NLIRG_JUDGE_API_KEY")
    return value


class Gates(Section):
    """Bounds a tuned variant must keep: exit code 1 if one is broken, 2 if one cannot be judged.

    Shares are in 0..1; `null` switches a gate off. `..._drop_max` bounds the fall below the base
    model. Instruction following and commonsense are asked by out-of-domain cases whose task types
    begin with `instructions/` and `commonsense/`, as those of the probe set do.
    """

    domain_accuracy_min: Share | None = 0.85
    instruction_following_min: Share | None = 0.80
    commonsense_drop_max: Share | None = 0.10
    retention_min: Share | None = None
    retention_drop_max: Share | None = 0.10
    repetition_max: Share | None = 0.25
    stop_rate_min: Share | None = 0.90
    format_rate_min: Share | None = 0.90


class JudgeConfig(Section):
    """A language model that compares answers, behind any OpenAI-compatible endpoint.

    Its key is read from the environment variable `NLIRG_JUDGE_API_KEY` and from nowhere else.
    `criteria` say what makes an answer the better one; at most `max_cases` are compared.
    """

    base_url: Annotated[str, AfterValidator(_plain_url)]
    model: Annotated[str, Field(min_length=1)]
    criteria: Annotated[str, Field(min_length=1)] = (
        "The better answer does what was asked, is factually right, is complete, and says nothing "
        "that was not asked for. Length and style alone do not make an answer better."
    )
    max_cases: Annotated[int, Field(ge=2)] = 200


# What may change between two evaluations of one run: the answers stay the same.
JUDGING = {
    "gates",
    "bootstrap",
    "confidence",
    "max_error_share",
    "engines",
    "tensor_parallel_size",
    "perplexity",
    "general",
    "lm_eval",
    "judge",
    "flip_samples",
    "scales",
}


# With fewer answers of each model not even all against none differs (`eval.metrics.flips`).
LEAST_SAMPLES = 3


def _enough_samples(count: int) -> int:
    if 0 < count < LEAST_SAMPLES:
        raise ValueError(
            f"{count} answers can never tell a change from chance: give {LEAST_SAMPLES} or more, "
            "or 0 for none"
        )
    return count


def _one_source(value: Any) -> Any:
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else value


class EvaluateConfig(Section):
    """What to generate and how to judge it.

    `domain` is a JSONL file of cases (see `eval.schema.case.Case`). `ood` is one or several of such
    files and of the shipped probe sets (`probe`, `probe:v1`; see `eval.cases.sources`), or null.
    Robustness cases are made from the domain cases by the perturbations named, and by up to
    `model_paraphrases` paraphrases a case that the base model writes. Where more than
    `max_error_share` of a suite's answers are errors, nothing is judged.

    `engine: transformers` needs no vLLM and answers one prompt at a time, for small jobs. Where a
    single answer of a variant is right and the base's wrong or the reverse, both answer again
    `flip_samples` times at `template_temperature`: never (0), or at least 3 times.

    `perplexity` also measures losses and KL(base || tuned) on the references of the domain cases
    and on general text: the shipped one, or `general`, a file of JSON lines or plain text.
    `lm_eval` names tasks of the lm-evaluation-harness. `judge` has a language model compare the
    answers of base and tuned models.

    `scales` are strengths at which every arm answers once more what gates and the plane of learning
    and forgetting need: 0.5 is halfway between the base model (0) and the arm itself (1).
    """

    domain: str | None = None
    ood: Annotated[tuple[str, ...], BeforeValidator(_one_source)] = ("probe",)
    perturbations: tuple[Perturbation, ...] = (
        "paraphrase",
        "field_order",
        "typos",
        "punctuation",
        "padding",
    )
    model_paraphrases: Annotated[int, Field(ge=0, le=16)] = 0
    max_cases: Annotated[int, Field(ge=1)] | None = None
    max_prompt_tokens: Annotated[int, Field(ge=8)] = 2048
    max_new_tokens: Annotated[int, Field(ge=1)] = 256
    template_temperature: Annotated[float, Field(gt=0)] = 0.8
    template_cases: Annotated[int, Field(ge=1)] = 200
    flip_samples: Annotated[int, Field(ge=0, le=64), AfterValidator(_enough_samples)] = 8
    bootstrap: Annotated[int, Field(ge=100)] = 2000
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    max_error_share: Share = 0.05
    engine: EngineName = "vllm"
    engines: Annotated[int, Field(ge=1)] | None = None
    tensor_parallel_size: Annotated[int, Field(ge=1)] = 1
    gates: Gates = Gates()
    perplexity: bool = True
    general: str | None = None
    lm_eval: Annotated[tuple[str, ...], BeforeValidator(_one_source)] = ()
    judge: JudgeConfig | None = None
    scales: Scales = ()

    @property
    def other_scales(self) -> tuple[float, ...]:
        """The scales but 1, which is the arm itself."""
        return tuple(scale for scale in self.scales if scale != 1)

    @model_validator(mode="after")
    def _one_gpu_without_vllm(self) -> Self:
        if self.engine == "transformers" and self.tensor_parallel_size > 1:
            raise ValueError("tensor_parallel_size needs engine: vllm")
        return self

    def meaning(self) -> dict[str, Any]:
        """The settings that decide the answers; the rest judges them or says where to compute."""
        return self.model_dump(mode="json", exclude=JUDGING)
