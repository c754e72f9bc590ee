"""What the evaluation reads and writes: cases, samples, and the comparison a report shows.

These models are the contract between generation, judgement and report; every file under
`eval/<variant>/` and `report/results.json` holds them.
"""

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
    """One constraint on an answer's form; `eval.instructions.kept` gives the meaning of every kind.

    `min` and `max` bound the kinds that count; equal bounds ask for an exact number. `values` are
    the words, phrases or names the other kinds speak of.
    """

    kind: Literal[
        "words",
        "characters",
        "sentences",
        "paragraphs",
        "lines",
        "bullets",
        "numbered",
        "placeholders",
        "highlights",
        "capital_words",
        "occurrences",
        "parts",
        "include",
        "include_any",
        "exclude",
        "starts_with",
        "ends_with",
        "repeats",
        "title",
        "quoted",
        "uppercase",
        "lowercase",
        "no_commas",
        "json",
        "language",
    ]
    values: tuple[str, ...] = ()
    min: Annotated[int, Field(ge=0)] | None = None
    max: Annotated[int, Field(ge=0)] | None = None


class Checker(Strict):
    """How an answer is judged; `eval.checkers.check` gives the meaning of every kind.

    `values` are the accepted answers (`exact`, `numeric`, `regex`), the options of which the
    reference is the right one (`choice`), the strings that must all appear (`slots`, `contains`),
    the required keys (`json`), the callable (`python`), what a helpful answer mentions
    (`refusal`), or empty to judge against the case's reference.
    `threshold` is the score from which an answer counts as correct.
    """

    kind: Literal[
        "exact",
        "choice",
        "numeric",
        "contains",
        "slots",
        "regex",
        "json",
        "json_schema",
        "f1",
        "rouge_l",
        "chrf",
        "python",
        "instructions",
        "refusal",
    ]
    values: tuple[str, ...] = ()
    threshold: Annotated[float, Field(ge=0, le=1)] = 1.0
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


class Sample(Strict):
    """One judged answer of one variant; a line of `samples_<suite>.jsonl`."""

    case_id: str
    root_id: str
    suite: Suite
    task_type: str
    perturbation: str
    prompt: str  # the rendered text the model saw
    prompt_sha256: str  # of the prompt's token ids: pairs are made only on equal hashes
    reference: str
    answer: str
    finish_reason: Literal["stop", "length", "error"]
    tokens: int  # generated tokens, end-of-turn included
    runaway: bool = False  # ran into the length limit repeating itself
    score: float  # in [0, 1]
    correct: bool
    format_ok: bool | None = None  # None where the case asks for no form
    error: str = ""


class Estimate(Strict):
    """A mean with its interval over `n` cases."""

    value: float
    low: float
    high: float
    n: int
    # The baseline's value where answers were cut to equal length with it; None if it is its own.
    before: float | None = None


class Paired(Strict):
    """The difference variant - baseline on the same cases."""

    delta: float
    low: float
    high: float
    n: int
    p_value: float
    p_holm: float  # adjusted over all metrics of the variant
    # The smallest difference that this sample would have shown in 80 of 100 repeats, after Holm.
    minimum_detectable: float
    confidence: float = 0.95  # coverage of low..high

    @property
    def alpha(self) -> float:
        """Chance of any false alarm over all metrics: 1 - confidence."""
        return round(1 - self.confidence, 12)  # 1 - 0.95 is not 0.05

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of zero."""
        return self.low > 0 or self.high < 0

    @property
    def significant(self) -> bool:
        """Whether the adjusted test rejects at `alpha` and the interval excludes zero."""
        return self.p_holm < self.alpha and self.excludes_zero


class Metric(Strict):
    """One row of the report's table."""

    key: str  # e.g. "domain_accuracy"
    label: str  # e.g. "Domain accuracy"
    family: Suite
    unit: Literal["share", "number", "tokens"]
    better: Literal["higher", "lower", "neither"]
    help: str  # one sentence for a reader who does not know the metric
    values: dict[str, Estimate]  # by variant; may hold "human" for the reference answers
    against: dict[str, Paired] = Field(default_factory=dict)  # by variant, baseline = base


class TaskMetric(Strict):
    """One metric's value for one task type."""

    key: str
    task_type: str
    values: dict[str, Estimate]


class PerturbationMetric(Strict):
    """One metric's value under one kind of rewording.

    `robustness_accuracy` is the share of right answers, `robustness_change` that share minus the
    share of the same questions in their original wording.
    """

    key: Literal["robustness_accuracy", "robustness_change"]
    perturbation: str
    values: dict[str, Estimate]


GateState = Literal["passed", "failed", "unjudged", "not_applicable"]


class GateResult(Strict):
    """One bound and whether one variant kept it.

    `unjudged` (something it needs is missing) counts against the run; `not_applicable` (no case
    asks for what it bounds) does not. Both have no value, and a reason that says why.
    """

    variant: str
    gate: str  # the field of `eval.config.Gates`
    metric: str
    bound: float
    value: float | None
    state: GateState
    reason: str = ""


class Answer(Strict):
    """One variant's answer in a side-by-side sample."""

    text: str
    correct: bool
    finish_reason: str


class SideBySide(Strict):
    """One case with every variant's answer."""

    case_id: str
    suite: Suite
    task_type: str
    perturbation: str
    prompt: str
    reference: str
    answers: dict[str, Answer]


class FlipResample(Strict):
    """A case that one model's single answer got right and the other's wrong, sampled again.

    Both models answered it `n` more times with a temperature. The flip is stable if at least
    `eval.flips.least_change(n)` more of the answers are right in its direction; otherwise the two
    single answers differ by chance as far as `n` can tell. A line of `eval/<variant>/flips.jsonl`.
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


class PhraseShare(Strict):
    """A phrase and the share of answers that contain it (or start or end with it), by variant."""

    phrase: str
    shares: dict[str, float]


class TrainingAlarm(Strict):
    """Something that training noticed to be wrong; a line of `train/<arm>/alarms.jsonl`."""

    kind: str
    step: int
    message: str  # what is wrong and what to do


class WeightMap(Strict):
    """On which losses the weights lay as training went on; some tens of columns."""

    steps: list[float]  # of each column: the mean of the steps in it
    bin_width: float  # nats; bins start at 0 and the last has no upper bound
    shares: list[list[float]]  # per column, the share of all weight in each loss bin


class ValidationCurve(Strict):
    """Mean token loss of held-out rows, nats; lists have one entry per validation."""

    steps: list[int]
    loss: list[float]  # NaN where it was not finite
    base_loss: float | None  # of the same rows under the base model, where scoring knows it


class TrainingCurve(Strict):
    """What one arm's training logged; lists have one entry per logged step."""

    steps: list[int]
    loss: list[float]  # unweighted mean token loss, nats
    weighted_loss: list[float]
    zones: dict[str, list[float]]  # shares of trained tokens: low, mid, high, discarded
    loss_by_task: dict[str, list[float]] = Field(default_factory=dict)  # NaN where not seen
    weights: WeightMap | None = None
    validation: ValidationCurve | None = None
    alarms: list[TrainingAlarm] = Field(default_factory=list)
    trained_tokens: int
    optimizer_steps: int
    settings: dict[str, str]  # weighting, learning rate, ... as shown to the reader


class CorpusSummary(Strict):
    """What scoring found in the corpus."""

    rows: int
    quarantined: dict[str, int]  # reason -> rows
    bands: dict[str, int]  # similarity band -> rows
    zones: dict[str, float]  # shares of answer tokens under the base model
    mean_loss: float


# What a verdict comes to. `bad`: a gate is broken or cannot be judged; `mixed`: the gates are kept,
# but the model got worse in one of learned, parrot and forgot; `good`: gates are kept and nothing
# got worse; `open`: no gate applies.
Tone = Literal["good", "mixed", "bad", "open"]


class Report(Strict):
    """The whole before/after report; `report/results.json`."""

    format: Literal[1] = 1
    title: str
    created: str  # ISO 8601, UTC
    variants: list[str]  # baseline first
    baseline: str
    seeds: dict[str, list[str]] = Field(default_factory=dict)  # arm -> its variants, one a seed
    confidence: float = 0.95  # of every interval; differences are tested at 1 - confidence
    metrics: list[Metric]
    by_task: list[TaskMetric]
    by_perturbation: list[PerturbationMetric] = Field(default_factory=list)
    gates: list[GateResult]
    headlines: dict[str, str] = Field(default_factory=dict)  # variant -> its verdict in one line
    tones: dict[str, Tone] = Field(default_factory=dict)  # variant -> what its verdict comes to
    verdicts: dict[str, list[str]]  # variant -> sentences: learned? parrot? forgot?
    openings: list[PhraseShare]
    closings: list[PhraseShare] = Field(default_factory=list)
    phrases: list[PhraseShare]
    samples: list[SideBySide]
    cases: dict[Suite, int] = Field(default_factory=dict)  # compared, whether shown or not
    flips: list[FlipResample] = Field(default_factory=list)
    flip_summaries: list[FlipSummary] = Field(default_factory=list)
    training: dict[str, TrainingCurve]  # arm -> curve
    corpus: CorpusSummary | None
    recipe: str  # resolved YAML
    environment: dict[str, str]
