"""The comparison that a report shows; `report/results.json` holds it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from eval.schema.case import Strict, Suite
from eval.schema.sample import FlipResample, FlipSummary
from nlirg.monitoring.alarm import Alarm

Unit = Literal["share", "number", "tokens"]
Effect = Literal["better", "worse", "changed", "unclear"]


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
    unit: Unit
    better: Literal["higher", "lower", "neither"]
    help: str  # one sentence for a reader who does not know the metric
    values: dict[str, Estimate]  # by variant; may hold "human" for the reference answers
    against: dict[str, Paired] = Field(default_factory=dict)  # by variant, baseline = base

    def effect(self, variant: str) -> Effect:
        """Return the direction of a variant's difference; `unclear` unless it is significant."""
        return self.effect_of(self.against[variant])

    def effect_of(self, paired: Paired) -> Effect:
        """Return the direction of a difference of this metric, whoever's it is."""
        if not paired.significant:
            return "unclear"
        if self.better == "neither":
            return "changed"
        return "better" if (paired.delta > 0) == (self.better == "higher") else "worse"

    def base_value(self, column: str, baseline: str) -> float:
        """Return the baseline's value that a column is compared with, at equal length if cut."""
        before = self.values[column].before
        return self.values[baseline].value if before is None else before


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


class PhraseShare(Strict):
    """A phrase and the share of answers that contain it (or start or end with it), by variant."""

    phrase: str
    shares: dict[str, float]


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


class GuardCurve(Strict):
    """What a guard measured, nats per token; lists have one entry per reading, the first at step 0.

    NaN where a reading was not finite; `kl` is empty where there were no answers to measure it on.
    """

    steps: list[int]
    loss: list[float]  # on general text
    kl: list[float]  # KL(base || model) on the base model's own answers
    metric: Literal["loss", "kl"]  # that the bound is on
    max_rise: float  # above the first reading


class TrainingCurve(Strict):
    """What one arm's training logged; lists have one entry per logged step."""

    steps: list[int]
    loss: list[float]  # unweighted mean token loss, nats
    weighted_loss: list[float]
    zones: dict[str, list[float]]  # shares of trained tokens: low, mid, high, discarded
    loss_by_task: dict[str, list[float]] = Field(default_factory=dict)  # NaN where not seen
    loss_by_source: dict[str, list[float]] = Field(default_factory=dict)
    weights: WeightMap | None = None
    validation: ValidationCurve | None = None
    guard: GuardCurve | None = None
    alarms: list[Alarm] = Field(default_factory=list)
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


# `bad`: a gate is broken or cannot be judged; `mixed`: the model got worse in one of learned,
# parrot and forgot; `good`: it did not, and gates are kept; `open`: no gate or measure applies.
Severity = Literal["good", "mixed", "bad", "open"]
Question = Literal["learned", "parrot", "forgot"]


class Conclusion(Strict):
    """The answer to one question about one variant, and what it rests on.

    `outcome` judges the model: `better` at `parrot` is less of one, at `forgot` it gained.
    """

    question: Question
    outcome: Effect | Literal["unmeasured"]
    severity: Severity
    # Key of `Comparison.metrics`, where the numbers are -> its effect, in order of importance.
    evidence: dict[str, Effect] = Field(default_factory=dict)
    # Of `parrot`: no metric that got worse lies beyond the human answers' interval.
    like_people: bool = False
    # Of `forgot`: general questions right before and wrong now, and the reverse.
    lost: int = 0
    gained: int = 0

    @property
    def quoted(self) -> str:
        """The metric whose numbers prove the outcome: the first with this effect, or the first."""
        alike = [key for key, effect in self.evidence.items() if effect == self.outcome]
        return next(iter(alike or self.evidence))


class Verdict(Strict):
    """What is concluded about one variant."""

    severity: Severity  # the worst of gates and conclusions
    conclusions: list[Conclusion]  # learned, parrot, forgot


class Contrast(Strict):
    """One metric of two tuned variants on the same cases.

    Answers that are cut to equal length are cut to each other's, so that `first` and `second` may
    be other numbers than beside the baseline.
    """

    key: str  # of `Comparison.metrics`
    first: float
    second: float
    paired: Paired  # second - first; adjusted over all metrics of the pair


class Pairing(Strict):
    """Two tuned variants compared with each other."""

    first: str
    second: str
    contrasts: list[Contrast]


class ScalePoint(Strict):
    """One arm at one scale, measured on all cases."""

    scale: float  # 0 is the baseline, 1 the arm itself
    variant: str
    domain: Estimate  # accuracy
    retention: Estimate | None  # None where the baseline gets no general question right
    gates: list[GateResult] = Field(default_factory=list)  # of the half that chooses; not of 0


class ScaleTrial(Strict):
    """The chosen scale on the half of the cases that had no part in the choice."""

    domain: Estimate
    learned: Paired  # domain accuracy against the baseline
    retention: Estimate | None
    gates: list[GateResult]


# `none`: at every scale a gate is broken; `unjudged`: no scale is known to keep them all, and at
# one or more a gate could not be judged; `no_gates`: no bound applies.
ChoiceOutcome = Literal["chosen", "none", "unjudged", "no_gates"]


class ScaleChoice(Strict):
    """The strongest scale of an arm that keeps every gate, and what it does on other cases."""

    outcome: ChoiceOutcome
    scale: float | None = None
    reason: str = ""  # why nothing could be judged, of either half
    trial: ScaleTrial | None = None
    cases: dict[Suite, int] = Field(default_factory=dict)  # that chose
    other_cases: dict[Suite, int] = Field(default_factory=dict)  # of the trial

    @property
    def state(self) -> GateState | None:
        """The worst state of a gate in the trial; None without one."""
        if self.trial is None:
            return None
        states = {gate.state for gate in self.trial.gates}
        order: tuple[GateState, ...] = ("failed", "unjudged", "passed", "not_applicable")
        return next((state for state in order if state in states), "not_applicable")


class ScaleCurve(Strict):
    """One arm from the baseline to itself, and beyond where that was asked for."""

    points: list[ScalePoint]  # by scale, from 0
    choice: ScaleChoice


class Comparison(Strict):
    """The tuned variants beside their base model on the prompts that all of them answered."""

    variants: list[str]  # baseline first
    baseline: str
    confidence: float = 0.95  # of every interval; differences are tested at 1 - confidence
    metrics: list[Metric]
    by_task: list[TaskMetric]
    by_perturbation: list[PerturbationMetric] = Field(default_factory=list)
    between: list[Pairing] = Field(default_factory=list)  # tuned variants, all or with the first
    gates: list[GateResult]
    verdicts: dict[str, Verdict]  # by tuned variant
    openings: list[PhraseShare]
    closings: list[PhraseShare] = Field(default_factory=list)
    phrases: list[PhraseShare]
    samples: list[SideBySide]
    cases: dict[Suite, int] = Field(default_factory=dict)  # compared, whether shown or not
    left_out: dict[Suite, int] = Field(default_factory=dict)  # because an answer failed; if any

    @property
    def tuned(self) -> list[str]:
        """Every variant but the baseline."""
        return [variant for variant in self.variants if variant != self.baseline]


class Report(Comparison):
    """The whole before/after report; `report/results.json`."""

    format: Literal[2] = 2
    title: str
    created: str  # ISO 8601, UTC
    seeds: dict[str, list[str]] = Field(default_factory=dict)  # arm -> its variants, one a seed
    flips: list[FlipResample] = Field(default_factory=list)
    flip_summaries: list[FlipSummary] = Field(default_factory=list)
    scales: dict[str, ScaleCurve] = Field(default_factory=dict)  # by arm; where asked for
    training: dict[str, TrainingCurve]  # arm -> curve
    corpus: CorpusSummary | None
    recipe: str  # resolved YAML
    environment: dict[str, str]
