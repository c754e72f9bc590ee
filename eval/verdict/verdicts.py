"""The answer in plain words: did it learn, is it a parrot, did it forget?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from eval import wording
from eval.schema.report import GateResult, GateState, Metric, Tone
from eval.statistics.pairing import HUMAN, Tables
from eval.wording import Effect

Metrics = Mapping[str, Metric]

# What tells a parrot, the one whose numbers are quoted first. How long answers are, and whether
# they end by themselves, is not among them: short answers can be as varied as long ones.
SAMENESS = (
    "distinct_2",
    "repetition_3_equal",
    "distinct_1",
    "top_phrases_share",
    "opening_share",
    "closing_share",
    "duplicate_share",
    "compression",
    "empty_share",
)


class Reading(NamedTuple):
    """What an effect means: as the lead of a sentence, and as a phrase of the headline."""

    lead: str
    phrase: str


LEARNED: dict[Effect, Reading] = {
    "better": Reading("Yes, it learned the domain", "learned the domain"),
    "worse": Reading("No, it got worse at the domain", "worse at the domain"),
    "unclear": Reading("No difference shown", "no learning shown"),
}
PARROT: dict[Effect, Reading] = {
    "better": Reading("Less of one than before", "less of a parrot"),
    "worse": Reading("More of one than before", "more of a parrot"),
    "changed": Reading("In some ways more of one, in others less", "partly more of a parrot"),
    "unclear": Reading("No difference shown", "no parroting shown"),
}
HUMANLIKE = "no more of a parrot than people"
FORGOT: dict[Effect, Reading] = {
    "better": Reading("No, it got better at general questions", "better at general questions"),
    "worse": Reading("Yes, it forgot", "forgot"),
    # Losses that gains make up for are still losses: the sentence counts both.
    "unclear": Reading("No net loss shown", "no net forgetting shown"),
}


def headline(metrics: Metrics, gates: Sequence[GateResult], variant: str) -> str:
    """The three answers and the gates in one line.

    `Learned the domain, no parroting shown, forgot; breaks 1 of 7 gates: retention drop`.
    """
    learned, parrot, forgot = _effects(metrics, variant)
    answers = [
        LEARNED[learned].phrase if learned else "learning not measured",
        _parrot_phrase(metrics, variant, parrot) if parrot else "parroting not measured",
        FORGOT[forgot].phrase if forgot else "forgetting not measured",
    ]
    text = ", ".join(answers)
    return f"{text[0].upper()}{text[1:]}; {_gates(gates)}"


def _parrot_phrase(metrics: Metrics, variant: str, parrot: Effect) -> str:
    return HUMANLIKE if _as_human(metrics, variant) else PARROT[parrot].phrase


def tone(metrics: Metrics, gates: Sequence[GateResult], variant: str) -> Tone:
    """The worst of the gates and the three answers; see `eval.schema.report.Tone`."""
    states = {gate.state for gate in gates}
    if states & {"failed", "unjudged"}:
        return "bad"
    learned, parrot, forgot = _effects(metrics, variant)
    repeats = parrot in ("worse", "changed") and not _as_human(metrics, variant)
    if repeats or "worse" in (learned, forgot):
        return "mixed"
    return "good" if "passed" in states else "open"


def _effects(metrics: Metrics, variant: str) -> tuple[Effect | None, Effect | None, Effect | None]:
    """What is answered to learned, parrot and forgot; None where it was not measured."""
    domain, general = metrics.get("domain_accuracy"), _general(metrics)
    return (
        wording.effect(domain, domain.against[variant]) if domain else None,
        _parroting(metrics, variant) if _of_sameness(metrics, variant) else None,
        wording.effect(general, general.against[variant]) if general else None,
    )


def _gates(gates: Sequence[GateResult]) -> str:
    applied = [gate for gate in gates if gate.state != "not_applicable"]
    parts = []
    verbs: dict[GateState, str] = {"failed": "breaks", "unjudged": "cannot judge"}
    for state, verb in verbs.items():
        named = [wording.gate_label(gate.gate).lower() for gate in applied if gate.state == state]
        if named:
            parts.append(f"{verb} {len(named)} of {len(applied)} gates: {', '.join(named)}")
    if parts:
        return "; ".join(parts)
    if not applied:
        return "no gates set"
    return f"keeps all {len(applied)} gates" if len(applied) > 1 else "keeps its gate"


def judge(metrics: Metrics, tables: Tables, baseline: str, variant: str) -> list[str]:
    """Three sentences on one variant, and one more if answers failed."""
    sentences = [
        _learned(metrics, baseline, variant),
        _parrot(metrics, baseline, variant),
        _forgot(metrics, baseline, variant),
    ]
    failed = {suite: table.left_out for suite, table in tables.items() if table.left_out}
    if failed:
        counts = ", ".join(f"{count} of {suite}" for suite, count in failed.items())
        sentences.append(f"Left out, because an answer failed for some variant: {counts} cases.")
    return sentences


def _learned(metrics: Metrics, baseline: str, variant: str) -> str:
    metric = metrics.get("domain_accuracy")
    if metric is None:
        return "Learned? Not measured: there are no domain cases."
    lead = LEARNED[wording.effect(metric, metric.against[variant])].lead
    return f"Learned? {lead}: accuracy {_change(metric, baseline, variant)}."


def _diversity(metrics: Metrics, variant: str) -> Metric | None:
    """The first measure of sameness that says of the variant what all of them say."""
    found = _of_sameness(metrics, variant)
    said = _parroting(metrics, variant)
    alike = [metric for metric, effect in found if effect == said]
    return next(iter(alike or [metric for metric, _ in found]), None)


def _of_sameness(metrics: Metrics, variant: str) -> list[tuple[Metric, Effect]]:
    """The measures of sameness that the variant has, and what became of each."""
    known = [metrics[key] for key in SAMENESS if key in metrics]
    return [(m, wording.effect(m, m.against[variant])) for m in known if variant in m.against]


def _sameness(metrics: Metrics, variant: str) -> dict[Effect, list[str]]:
    """The names of the measures of sameness by what became of them."""
    found: dict[Effect, list[str]] = {"worse": [], "better": [], "unclear": []}
    for metric, effect in _of_sameness(metrics, variant):
        found[effect].append(_name(metric))
    return found


def _parroting(metrics: Metrics, variant: str) -> Effect:
    """What the measures of sameness that changed say.

    `better` only if none got worse: several of them gain together from one change (words that are
    new in the first sentence), so that they may not outvote the others; `worse` if most did.
    That one of several would be called different by chance is what Holm's correction bounds.
    """
    found = _sameness(metrics, variant)
    worse, better = len(found["worse"]), len(found["better"])
    if worse and better:
        return "worse" if worse > better else "changed"
    return "worse" if worse else "better" if better else "unclear"


def _parrot(metrics: Metrics, baseline: str, variant: str) -> str:
    metric = _diversity(metrics, variant)
    if metric is None:
        return "Parrot? Not measured: there are no sampled answers."
    lead = PARROT[_parroting(metrics, variant)].lead
    if _as_human(metrics, variant):
        lead += ", no more than the human answers"
    text = f"{_name(metric)} {_change(metric, baseline, variant)}{_human(metric, baseline)}"
    openings = metrics["opening_share"]
    before, now = (_value(openings, name) for name in (baseline, variant))
    compared = f"{baseline} {before}{_human(openings, baseline)}"
    return (
        f"Parrot? {lead}: {_counted(_sameness(metrics, variant))}; {text}. "
        f"One opening begins {now} of its answers ({compared})."
    )


def _as_human(metrics: Metrics, variant: str) -> bool:
    """Whether no measure that got worse lies beyond the human answers' interval."""
    worse = [metric for metric, effect in _of_sameness(metrics, variant) if effect == "worse"]
    known = [metric for metric in worse if HUMAN in metric.values]
    return bool(known) and not any(
        metric.values[variant].value < metric.values[HUMAN].low
        if metric.better == "higher"
        else metric.values[variant].value > metric.values[HUMAN].high
        for metric in known
    )


def _counted(sameness: Mapping[Effect, Sequence[str]]) -> str:
    """`of 6 measures of sameness 2 got worse (distinct-1, compression ratio), none better`."""
    total = sum(map(len, sameness.values()))
    worse, better = (
        f"{len(names)} {text} ({', '.join(names)})" if names else f"none {text}"
        for names, text in ((sameness["worse"], "got worse"), (sameness["better"], "better"))
    )
    return f"of {total} measures of sameness {worse}, {better}"


def _general(metrics: Metrics) -> Metric | None:
    """What forgetting is judged by; a base that gets nothing right has nothing to forget."""
    return metrics.get("ood_accuracy") if "retention" in metrics else None


def _forgot(metrics: Metrics, baseline: str, variant: str) -> str:
    asked = metrics.get("ood_accuracy")
    if asked is None:
        return "Forgot? Not measured: there are no out-of-domain cases."
    metric = _general(metrics)
    if metric is None:
        return (
            f"Forgot? Cannot be seen: {baseline} gets none of the "
            f"{asked.values[baseline].n} general questions right."
        )
    lead = FORGOT[wording.effect(metric, metric.against[variant])].lead
    retention = metrics["retention"]
    kept = retention.values[variant]
    paired = metric.against[variant]
    lost = round(kept.n * (1 - kept.value))
    gained = lost + round(paired.n * paired.delta)
    return (
        f"Forgot? {lead}: accuracy on general questions {_change(metric, baseline, variant)}. "
        f"Of the {kept.n} that {baseline} gets right it still gets "
        f"{_value(retention, variant)} right: {lost} lost, {gained} of the others gained."
    )


def _change(metric: Metric, baseline: str, variant: str) -> str:
    """`12.0% → 64.0% (+52.0 pts, interval +45.1 to +58.8, excludes zero, p < .001)`."""
    paired = metric.against[variant]
    before, now = wording.before(metric, variant, baseline), _value(metric, variant)
    ends = wording.difference_interval(paired.low, paired.high, metric.unit)
    zero = "excludes zero" if paired.excludes_zero else "includes zero"
    parts = [
        wording.difference(paired.delta, metric.unit),
        f"interval {ends} {zero}",
        f"{wording.probability(paired.p_holm)} adjusted",
    ]
    if wording.effect(metric, paired) == "unclear":
        parts.append(f"{paired.n} cases {wording.detectable(metric, paired)}")
    return f"{before} → {now} ({', '.join(parts)})"


def _value(metric: Metric, variant: str) -> str:
    return wording.value(metric.values[variant].value, metric.unit)


def _name(metric: Metric) -> str:
    return metric.label[0].lower() + metric.label[1:]


def _human(metric: Metric, baseline: str) -> str:
    if HUMAN not in metric.values:
        return ""
    beside = wording.beside(metric, HUMAN, baseline)
    return f", human answers {_value(metric, HUMAN)}" + (f" ({beside})" if beside else "")
