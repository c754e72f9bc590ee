"""What is asked: cases, and how their answers are judged."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Suite = Literal["domain", "robustness", "template", "ood"]


SUITES: tuple[Suite, ...] = ("domain", "robustness", "template", "ood")


class Strict(BaseModel):
    """Base of the file formats: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Message(Strict):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


class Instruction(Strict):
    """One constraint on an answer's form; the kinds are those in `eval.checkers.instructions`.

    `min` and `max` bound the kinds that count; equal bounds ask for an exact number. `values` are
    the words, phrases or names the other kinds speak of.
    """

    kind: str
    values: tuple[str, ...] = ()
    min: Annotated[int, Field(ge=0)] | None = None
    max: Annotated[int, Field(ge=0)] | None = None


class Checker(Strict):
    """How an answer is judged.

    The kinds are those that register themselves in `eval/checkers/`, and `validate_checker` refuses
    others. What `values` are depends on the kind; without them most judge by the case's reference.
    `threshold` is the score from which an answer counts as correct. With `answer_by: likelihood`
    the options of a `choice` are ranked by their probability, and nothing is generated
    (`eval.checkers.likelihood`).
    """

    kind: str
    values: tuple[str, ...] = ()
    threshold: Annotated[float, Field(ge=0, le=1)] = 1.0
    answer_by: Literal["text", "likelihood"] = "text"
    json_schema: dict[str, Any] | None = None  # of `json_schema`
    instructions: tuple[Instruction, ...] = ()  # of `instructions`


class Case(Strict):
    """One evaluation question. `messages` ends on the user's turn.

    `checker` judges the content; `format`, where given, whether the answer has the form asked for.
    """

    id: str
    messages: tuple[Message, ...]
    reference: str = ""
    checker: Checker
    format: Checker | None = None
    task_type: str = ""
    suite: Suite = "domain"
    perturbation: str = ""  # "" = the original wording
    root_id: str = ""  # the case this one is a variant of; clusters the statistics
