"""Write the verdict on a variant: a headline, and a sentence with its proof for each question."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from eval.report import wording
from eval.schema.report import Comparison, Conclusion, GateState, Metric, Question
from eval.statistics.pairing import HUMAN
from eval.verdict.gates import GATES


@dataclass(frozen=True)
class Reading:
    """What an outcome means: as the lead of a sentence, and as a phrase of the headline."""

    lead: str
    phrase: str


READINGS: dict[Question, dict[str, Reading]] = {
    "learned": {
        "better": Reading("Yes, it learned the domain", "learned the domain"),
        "worse": Reading("No, it got worse at the domain", "worse at the domain"),
        "unclear": Reading("No difference shown", "no learning shown"),
        "unmeasured": Reading("Not measured", "learning not measured"),
    },
    "parrot": {
        "better": Reading("Less of one than before", "less of a parrot"),
        "worse": Reading("More of one than before", "more of a parrot"),
        "changed": Reading("In some ways more of one, in others less", "partly more of a parrot"),
        "unclear": Reading("No difference shown", "no parroting shown"),
        "unmeasured": Reading("Not measured", "parroting not measured"),
    },
    "forgot": {
        "better": Reading("No, it got better at general questions", "better at general questions"),
        "worse": Reading("Yes, it forgot", "forgot"),
        # Losses that gains make up for are still losses: the sentence counts both.
        "unclear": Reading("No net loss shown", "no net forgetting shown"),
        "unmeasured": Reading("Not measured", "forgetting not measured"),
    },
}
HUMANLIKE = "no more of a parrot than people"
MISSING: dict[Question, str] = {
    "learned": "there are no domain cases.",
    "parrot": "there are no sampled answers.",
    "forgot": "there are no out-of-domain cases.",
}


@dataclass(frozen=True)
class Sentence:
    """The answer to a question, and the numbers that support it."""

    lead: str
    proof: str

    def __str__(self) -> str:
        return f"{self.lead}: {self.proof}"


@dataclass(frozen=True)
class VerdictText:
    """The verdict on one variant in words.

    Attributes:
        answers: the three answers: `Learned the domain, no parroting shown, forgot`.
        gates: what the gates say: `breaks 1 of 7 gates: retention drop`.
        sentences: one a question, and one more if answers failed.
    """

    answers: str
    gates: str
    sentences: list[Sentence]

    @property
    def headline(self) -> str:
        """Answers and gates in one line."""
        return f"{self.answers}; {self.gates}"


def verdict_text(comparison: Comparison, variant: str) -> VerdictText:
    """Put the verdict on a variant into words."""
    conclusions = comparison.verdicts[variant].conclusions
    answers = ", ".join(map(_phrase, conclusions))
    metrics = {metric.key: metric for metric in comparison.metrics}
    sentences = [_sentence(each, metrics, comparison.baseline, variant) for each in conclusions]
    if comparison.left_out:
        counts = ", ".join(f"{count} of {suite}" for suite, count in comparison.left_out.items())
        lead = "Left out, because an answer failed for some variant"
        sentences.append(Sentence(lead, f"{counts} cases."))
    return VerdictText(answers[:1].upper() + answers[1:], _gates(comparison, variant), sentences)


def _phrase(conclusion: Conclusion) -> str:
    if conclusion.like_people:
        return HUMANLIKE
    return READINGS[conclusion.question][conclusion.outcome].phrase


def _gates(comparison: Comparison, variant: str) -> str:
    of_variant = [gate for gate in comparison.gates if gate.variant == variant]
    applied = [gate for gate in of_variant if gate.state != "not_applicable"]
    parts = []
    verbs: dict[GateState, str] = {"failed": "breaks", "unjudged": "cannot judge"}
    for state, verb in verbs.items():
        if named := [GATES[gate.gate].label.lower() for gate in applied if gate.state == state]:
            parts.append(f"{verb} {len(named)} of {len(applied)} gates: {', '.join(named)}")
    if parts:
        return "; ".join(parts)
    if not applied:
        return "no gates set"
    return f"keeps all {len(applied)} gates" if len(applied) > 1 else "keeps its gate"


def _sentence(
    conclusion: Conclusion, metrics: Mapping[str, Metric], baseline: str, variant: str
) -> Sentence:
    question = conclusion.question
    lead = f"{question.capitalize()}? {READINGS[question][conclusion.outcome].lead}"
    if conclusion.like_people:
        lead += ", no more than the human answers"
    if not conclusion.evidence:
        if question == "forgot" and (asked := metrics.get("ood_accuracy")):
            count = asked.values[baseline].n
            return Sentence(
                "Forgot? Cannot be seen",
                f"{baseline} gets none of the {count} general questions right.",
            )
        return Sentence(lead, MISSING[question])
    metric = metrics[conclusion.quoted]
    change = _change(metric, baseline, variant)
    if question == "learned":
        return Sentence(lead, f"accuracy {change}.")
    if question == "parrot":
        return Sentence(lead, " ".join(_sameness(conclusion, metrics, baseline, variant, change)))
    kept = metrics["retention"].values[variant]
    return Sentence(
        lead,
        f"accuracy on general questions {change}. Of the {kept.n} that {baseline} gets right it "
        f"still gets {wording.value(kept.value, 'share')} right: {conclusion.lost} lost, "
        f"{conclusion.gained} of the others gained.",
    )


def _sameness(
    conclusion: Conclusion, metrics: Mapping[str, Metric], baseline: str, variant: str, change: str
) -> Iterator[str]:
    """Yield how many measures changed, the numbers of one, and the commonest opening."""
    counts = []
    for effect, verb in (("worse", "got worse"), ("better", "better")):
        names = [_name(metrics[key]) for key, e in conclusion.evidence.items() if e == effect]
        counts.append(f"{len(names)} {verb} ({', '.join(names)})" if names else f"none {verb}")
    quoted, openings = metrics[conclusion.quoted], metrics["opening_share"]
    yield f"of {len(conclusion.evidence)} measures of sameness {', '.join(counts)};"
    yield f"{_name(quoted)} {change}{_human(quoted, baseline)}."
    yield f"One opening begins {_value(openings, variant)} of its answers"
    yield f"({baseline} {_value(openings, baseline)}{_human(openings, baseline)})."


def _change(metric: Metric, baseline: str, variant: str) -> str:
    """Write `12.0% → 64.0% (+52.0 pts, interval +45.1 to +58.8 excludes zero, p < .001)`."""
    paired = metric.against[variant]
    before = wording.value(metric.base_value(variant, baseline), metric.unit)
    ends = wording.difference_interval(paired.low, paired.high, metric.unit)
    parts = [
        wording.difference(paired.delta, metric.unit),
        f"interval {ends} {'excludes' if paired.excludes_zero else 'includes'} zero",
        f"{wording.probability(paired.p_holm)} adjusted",
    ]
    if metric.effect(variant) == "unclear":
        parts.append(f"{paired.n} cases {wording.detectable(metric, variant)}")
    return f"{before} → {_value(metric, variant)} ({', '.join(parts)})"


def _value(metric: Metric, variant: str) -> str:
    return wording.value(metric.values[variant].value, metric.unit)


def _name(metric: Metric) -> str:
    return metric.label[0].lower() + metric.label[1:]


def _human(metric: Metric, baseline: str) -> str:
    if HUMAN not in metric.values:
        return ""
    beside = wording.beside(metric, HUMAN, baseline)
    return f", human answers {_value(metric, HUMAN)}" + (f" ({beside})" if beside else "")
