"""What was answered: judged samples, and flipped cases sampled again."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from eval.schema.case import Strict, Suite


class Sample(Strict):
    """One judged answer of one variant; a line of `samples_<suite>.jsonl`.

    Where the options of a choice question were ranked by likelihood, `answer` is the likeliest of
    them, `score` the probability of the right one, and no token was generated.
    """

    case_id: str
    root_id: str
    suite: Suite
    task_type: str
    perturbation: str
    prompt: str  # the rendered text the model saw
    prompt_sha256: str  # of the prompt's token ids: pairs are made only on equal hashes
    reference: str
    answer: str
    reasoning: str = ""  # thinking before the answer
    finish_reason: Literal["stop", "length", "error"]
    tokens: int  # generated tokens, end-of-turn included
    runaway: bool = False  # ran into the length limit repeating itself
    score: float  # in [0, 1]
    correct: bool
    format_ok: bool | None = None  # None where the case asks for no form
    # Mean ln p per token of every option; empty where the answer was generated.
    option_logprobs: dict[str, float] = Field(default_factory=dict)
    error: str = ""

    @property
    def generated(self) -> bool:
        """Whether the model wrote the answer, rather than having options ranked."""
        return not self.option_logprobs


class FlipResample(Strict):
    """A case that one model's single answer got right and the other's wrong, sampled again.

    Both models answered it `n` more times with a temperature. The flip is stable if at least
    `eval.metrics.flips.least_change(n)` more of the answers are right in its direction; otherwise
    the two single answers differ by chance as far as `n` can tell.
    A line of `eval/<variant>/flips.jsonl`.
    """

    variant: str
    case_id: str
    suite: Suite
    task_type: str
    kind: Literal["loss", "gain"]  # the base was right and the variant wrong, or the reverse
    n: Annotated[int, Field(ge=1)]
    base_right: int  # of n
    variant_right: int  # of n
    stable: bool


class FlipSummary(Strict):
    """The flips of one variant in one suite.

    `pass_at_k[name][k - 1]` is the chance that at least one of k answers is right, mean over the
    flipped cases, for the base and for the variant (arXiv 2107.03374, unbiased).
    """

    variant: str
    suite: Suite
    n: int  # answers a case and model
    losses: int
    stable_losses: int
    gains: int
    stable_gains: int
    pass_at_k: dict[str, list[float]]
