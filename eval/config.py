"""Settings of the evaluation: the recipe's `evaluate` section."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from nlirg.config import Section

Share = Annotated[float, Field(ge=0, le=1)]
Perturbation = Literal[
    "paraphrase",
    "field_order",
    "typos",
    "punctuation",
    "letter_case",
    "dropped_sentence",
    "truncated_sentence",
    "code_switching",
    "padding",
]


class Gates(Section):
    """Bounds a tuned variant must keep; a broken one makes the run exit with code 1.

    Shares are in 0..1; `null` switches a gate off.
    """

    domain_accuracy_min: Share | None = 0.85
    retention_min: Share | None = None
    retention_drop_max: Share | None = 0.10
    repetition_max: Share | None = 0.25
    stop_rate_min: Share | None = 0.90
    format_rate_min: Share | None = 0.90


JUDGING = {"gates", "bootstrap", "confidence", "engines", "tensor_parallel_size"}


def _one_source(value: Any) -> Any:
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else value


class EvaluateConfig(Section):
    """What to generate and how to judge it.

    `domain` is a JSONL file of cases (see `eval.schema.Case`). `ood` is one or several of such
    files and of the shipped probe sets (`probe`, `probe:v1`; see `eval.sources`). Robustness
    cases are made from the domain cases by the perturbations named, and by up to
    `model_paraphrases` rewordings a case that the base model writes.
    """

    domain: str | None = None
    ood: Annotated[tuple[str, ...], BeforeValidator(_one_source)] = ()
    perturbations: tuple[Perturbation, ...] = (
        "paraphrase",
        "field_order",
        "typos",
        "punctuation",
        "dropped_sentence",
        "code_switching",
    )
    model_paraphrases: Annotated[int, Field(ge=0, le=16)] = 0
    max_cases: Annotated[int, Field(ge=1)] | None = None
    max_prompt_tokens: Annotated[int, Field(ge=8)] = 2048
    max_new_tokens: Annotated[int, Field(ge=1)] = 256
    template_temperature: Annotated[float, Field(gt=0)] = 0.8
    template_cases: Annotated[int, Field(ge=1)] = 200
    bootstrap: Annotated[int, Field(ge=100)] = 2000
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    engines: Annotated[int, Field(ge=1)] | None = None
    tensor_parallel_size: Annotated[int, Field(ge=1)] = 1
    gates: Gates = Gates()

    def meaning(self) -> dict[str, Any]:
        """The settings that decide the answers; the rest judges them or says where to compute."""
        return self.model_dump(mode="json", exclude=JUDGING)
