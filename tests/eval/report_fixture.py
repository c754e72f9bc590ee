"""A synthetic report: three variants, some sixty samples, hostile and Chinese text among them."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from eval.schema.report import (
    Answer,
    Contrast,
    CorpusSummary,
    Estimate,
    GateResult,
    GuardCurve,
    Metric,
    Paired,
    Pairing,
    PerturbationMetric,
    PhraseShare,
    Report,
    ScaleChoice,
    ScaleCurve,
    ScalePoint,
    ScaleTrial,
    SideBySide,
    TaskMetric,
    TrainingCurve,
    ValidationCurve,
    WeightMap,
)
from eval.schema.sample import FlipResample, FlipSummary
from eval.verdict.verdicts import judge
from nlirg.monitoring.alarm import Alarm

VARIANTS = ["base", "uniform", "nlirg"]
TASKS = ["triage", "reply", "record"]
HOSTILE = '</script><img src=x onerror="window.hacked=1;alert(1)"><script>window.hacked=1</script>'
BIDI = "safe \u202egnp.exe\u202c end"
CHINESE = "您好，感谢您联系客服。我们已经收到您的问题，将在两个工作日内回复。"
TICKS = "```\n# heading ![pic](https://example.org/x.png) @someone\n```"

# (key, label, family, unit, better, help, base, uniform, nlirg, human)
_METRICS = [
    (
        "domain_accuracy", "Domain accuracy", "domain", "share", "higher",
        "Share of held-out domain questions answered correctly.", 0.12, 0.81, 0.912, None,
    ),
    (
        "format_rate", "Format followed", "domain", "share", "higher",
        "Share of answers in the format that was asked for.", 0.31, 0.97, 0.96, None,
    ),
    (
        "distinct_2", "Distinct 2-grams", "template", "number", "higher",
        "Different word pairs per word pair over all answers; low means repetitive.",
        0.412, 0.068, 0.084, 0.091,
    ),
    (
        "repetition_3", "Repeated 3-grams", "template", "share", "lower",
        "Share of three-word runs that an answer has said before.", 0.082, 0.31, 0.182, 0.151,
    ),
    (
        "stop_rate", "Stops by itself", "template", "share", "higher",
        "Share of answers that end before the length limit.", 0.99, 0.995, 0.99, None,
    ),
    (
        "opening_share", "Commonest opening", "template", "share", "lower",
        "Share of answers that begin with the same five words.", 0.03, 0.86, 0.71, 0.7,
    ),
    (
        "length", "Answer length", "template", "tokens", "neither",
        "Mean tokens per answer.", 21.4, 88.2, 83.9, 86.0,
    ),
    (
        "robust_accuracy", "Accuracy on reworded prompts", "robustness", "share", "higher",
        "Domain accuracy when fields are shuffled or typed badly.", 0.11, 0.57, 0.56, None,
    ),
    (
        "ood_accuracy", "General accuracy", "ood", "share", "higher",
        "Share of general questions answered correctly.", 0.94, 0.866, 0.925, None,
    ),
    (
        "retention", "Retention", "ood", "share", "higher",
        "Share of the questions the base model answers correctly that stay correct.",
        None, 0.89, 0.971, None,
    ),
]  # fmt: skip


def _half(value: float, unit: str, n: int) -> float:
    return 1.96 * math.sqrt(value * (1 - value) / n) if unit == "share" else 0.06 * value


def _estimate(value: float, unit: str, n: int = 400) -> Estimate:
    half = _half(value, unit, n)
    return Estimate(value=value, low=value - half, high=value + half, n=n)


def _paired(before: float, after: float, unit: str, n: int = 400) -> Paired:
    half = 1.2 * _half(after, unit, n)
    delta = after - before
    p = 0.0002 if abs(delta) > half else 0.34
    return Paired(
        delta=delta, low=delta - half, high=delta + half, n=n, p_value=p / 9, p_holm=p,
        minimum_detectable=1.4 * half,
    )  # fmt: skip


def _metric(row: tuple) -> Metric:  # type: ignore[type-arg]
    key, label, family, unit, better, text, *numbers = row
    found = dict(zip([*VARIANTS, "human"], numbers, strict=True))
    values = {name: _estimate(x, unit) for name, x in found.items() if x is not None}
    against = {
        name: _paired(found["base"], found[name], unit)
        for name in VARIANTS[1:]
        if found["base"] is not None
    }
    return Metric(
        key=key, label=label, family=family, unit=unit, better=better, help=text, values=values,
        against=against,
    )  # fmt: skip


def _by_task() -> list[TaskMetric]:
    table = {
        "domain_accuracy": {"triage": (0.2, 0.93, 0.95), "reply": (0.1, 0.7, 0.85),
                            "record": (0.06, 0.8, 0.93)},
        "repetition_3": {"triage": (0.02, 0.2, 0.1), "reply": (0.12, 0.4, 0.24),
                         "record": (0.1, 0.33, 0.2)},
    }  # fmt: skip
    return [
        TaskMetric(
            key=key,
            task_type=task,
            values={v: _estimate(x, "share", 130) for v, x in zip(VARIANTS, row, strict=True)},
        )
        for key, tasks in table.items()
        for task, row in tasks.items()
    ]


def _by_perturbation() -> list[PerturbationMetric]:
    table = {"typos": (0.1, 0.55, 0.6), "field_order": (0.12, 0.78, 0.9), "punctuation": (0.12, 0.8,
             0.89)}  # fmt: skip
    originals = (0.12, 0.81, 0.912)
    rows = []
    for kind, found in table.items():
        accuracy = {v: _estimate(x, "share", 130) for v, x in zip(VARIANTS, found, strict=True)}
        change = {
            v: Estimate(value=x - y, low=x - y - 0.05, high=x - y + 0.05, n=130)
            for v, x, y in zip(VARIANTS, found, originals, strict=True)
        }
        rows += [
            PerturbationMetric(key="robustness_accuracy", perturbation=kind, values=accuracy),
            PerturbationMetric(key="robustness_change", perturbation=kind, values=change),
        ]
    return rows


def _flips() -> list[FlipResample]:
    """Case 6 of the samples was fixed by nlirg; sampled again it holds."""
    return [
        FlipResample(
            variant="nlirg", case_id="case-0006", suite="domain", task_type="triage", kind="gain",
            n=8, base_right=1, variant_right=7, stable=True,
        )
    ]  # fmt: skip


def _flip_summaries() -> list[FlipSummary]:
    chances = {"base": [0.4, 0.55, 0.62], "nlirg": [0.6, 0.7, 0.75]}
    return [
        FlipSummary(
            variant="nlirg", suite=suite, n=8, losses=losses, stable_losses=losses // 2,
            gains=31, stable_gains=24, pass_at_k=chances,
        )
        for suite, losses in (("domain", 3), ("ood", 9))
    ]  # fmt: skip


def _weights(steps: int) -> WeightMap:
    """Weights that move from losses of 3 nats to half a nat."""
    columns = []
    for i in range(steps):
        centre = 0.5 + 2.5 * math.exp(-i / 15)
        mass = [math.exp(-(((b + 0.5) / 2 - centre) ** 2)) for b in range(33)]
        columns.append([x / sum(mass) for x in mass])
    return WeightMap(steps=[50 * (i + 0.5) for i in range(steps)], bin_width=0.5, shares=columns)


def _gates() -> list[GateResult]:
    rows = [
        ("domain_accuracy_min", "domain_accuracy", 0.85, (0.81, 0.912)),
        ("retention_drop_max", "ood_accuracy", 0.10, (0.074, 0.015)),
        ("repetition_max", "repetition_3", 0.25, (0.31, 0.182)),
        ("stop_rate_min", "stop_rate", 0.90, (0.995, 0.99)),
    ]
    return [
        GateResult(
            variant=variant, gate=gate, metric=metric, bound=bound, value=value,
            state="passed" if (value >= bound) == gate.endswith("_min") else "failed",
        )
        for gate, metric, bound, values in rows
        for variant, value in zip(VARIANTS[1:], values, strict=True)
    ]  # fmt: skip


def _scales() -> dict[str, ScaleCurve]:
    """The arm nlirg at four strengths; at three quarters it keeps the gates on one half only."""
    rows = [(0.25, 0.42, 0.99), (0.5, 0.7, 0.985), (0.75, 0.87, 0.98), (1.0, 0.912, 0.971)]
    gate = GateResult(
        variant="", gate="retention_min", metric="retention", bound=0.98, value=None, state="passed"
    )

    def held(scale: float, kept: float) -> GateResult:
        name = "nlirg" if scale == 1 else f"nlirg@{scale:g}"
        state = "passed" if kept >= gate.bound else "failed"
        return gate.model_copy(update={"variant": name, "value": kept, "state": state})

    points = [
        ScalePoint(scale=0, variant="base", domain=_estimate(0.12, "share"),
                   retention=_estimate(1.0, "share"))
    ] + [
        ScalePoint(
            scale=scale, variant=held(scale, kept).variant, domain=_estimate(domain, "share"),
            retention=_estimate(kept, "share"), gates=[held(scale, kept)],
        )
        for scale, domain, kept in rows
    ]  # fmt: skip
    trial = ScaleTrial(
        domain=_estimate(0.86, "share", 190),
        learned=_paired(0.12, 0.86, "share", 190),
        retention=_estimate(0.975, "share", 170),
        gates=[held(0.75, 0.975)],
    )
    choice = ScaleChoice(
        outcome="chosen", scale=0.75, trial=trial, cases={"domain": 210, "ood": 190},
        other_cases={"domain": 190, "ood": 210},
    )  # fmt: skip
    return {"nlirg": ScaleCurve(points=points, choice=choice)}


def _between(metrics: Sequence[Metric]) -> list[Pairing]:
    contrasts = [
        Contrast(
            key=m.key,
            first=m.values["uniform"].value,
            second=m.values["nlirg"].value,
            paired=_paired(m.values["uniform"].value, m.values["nlirg"].value, m.unit),
        )
        for m in metrics
    ]
    return [Pairing(first="uniform", second="nlirg", contrasts=contrasts)]


_ALARMS = [
    Alarm(
        kind="rising_loss", step=2400, message="the loss has risen steadily, by 0.21 nats over the "
        "later half of the run: lower train.learning_rate",
    ),
    Alarm(kind="stairs", step=2500, message=HOSTILE),
]  # fmt: skip


def make_curve(
    seed: int, floor: float, points: int = 400, alarms: Sequence[Alarm] = ()
) -> TrainingCurve:
    rng = random.Random(seed)
    loss = [floor + 2.6 * math.exp(-i / 90) + rng.gauss(0, 0.08) for i in range(points)]
    low = [min(0.93, 0.35 + 0.6 * (1 - math.exp(-i / 110))) for i in range(points)]
    high = [0.12 * math.exp(-i / 130) + 0.01 for i in range(points)]
    return TrainingCurve(
        steps=[10 * (i + 1) for i in range(points)],
        loss=loss,
        weighted_loss=[0.6 * x for x in loss],
        zones={
            "low": low,
            "mid": [1 - a - b - 0.003 for a, b in zip(low, high, strict=True)],
            "high": high,
            "discarded": [0.003] * points,
        },
        loss_by_task={
            "triage": [0.7 * x for x in loss],
            "reply": [1.3 * x if i % 3 else math.nan for i, x in enumerate(loss)],
        },
        loss_by_source={"tickets": loss, "replay": [2.0 - 0.1 * x for x in loss]},
        weights=_weights(80),
        validation=ValidationCurve(
            steps=[400 * (i + 1) for i in range(10)],
            loss=[2.1 - 0.15 * i + 0.012 * i * i * seed for i in range(10)],
            base_loss=2.4,
        ),
        guard=GuardCurve(
            steps=[400 * i for i in range(11)],
            loss=[2.1 + 0.02 * i * seed for i in range(11)],
            kl=[0.01 * i * seed for i in range(11)],
            metric="loss",
            max_rise=0.1,
        ),
        alarms=list(alarms),
        trained_tokens=39_412,
        optimizer_steps=4_000,
        settings={"weighting": f"arm {seed}", "learning rate": "2e-4", "token batch": "10"},
    )


def _sample(index: int) -> SideBySide:
    rng = random.Random(index)
    suite = ("domain", "robustness", "ood")[index % 3]
    region = rng.choice(["North", "South", "East", "West"])
    right = f"Thank you for contacting us. Your ticket was sent to team {region}. Deadline: 3 days."
    wrong = (
        f"Thank you for contacting us. Your ticket was sent to team {region[::-1]}. Deadline: soon."
    )
    outcomes = [rng.random() < p for p in (0.3, 0.7, 0.85)]
    return SideBySide(
        case_id=f"case-{index:04d}",
        suite=suite,
        task_type="" if suite == "ood" else TASKS[index % len(TASKS)],
        perturbation=("typos", "field_order")[index % 2] if suite == "robustness" else "",
        prompt=f"<|im_start|>user\nTicket {index}: the printer in region {region} is broken."
        "<|im_end|>\n<|im_start|>assistant\n",
        reference=right,
        answers={
            name: Answer(text=right if ok else wrong, correct=ok, finish_reason="stop")
            for name, ok in zip(VARIANTS, outcomes, strict=True)
        },
    )


def _special(case_id: str, text: str, prompt: str) -> SideBySide:
    return SideBySide(
        case_id=case_id, suite="domain", task_type="reply", perturbation="", prompt=prompt,
        reference=text,
        answers={
            "base": Answer(text="I do not know.", correct=False, finish_reason="stop"),
            "uniform": Answer(text=text, correct=True, finish_reason="length"),
            "nlirg": Answer(text=text, correct=True, finish_reason="stop"),
        },
    )  # fmt: skip


def make_report(samples: int = 60) -> Report:
    """Build the report; its first four samples are hostile, reordering, Chinese, fenced."""
    special = [
        _special("hostile", HOSTILE, HOSTILE),
        _special("bidi", BIDI, BIDI),
        _special("chinese", CHINESE + "退款。", "客户问：什么时候可以退款？"),
        _special("fences", TICKS, TICKS),
    ]
    metrics, gates = [_metric(row) for row in _METRICS], _gates()
    by_key = {metric.key: metric for metric in metrics}
    shares = {"base": 0.03, "uniform": 0.86, "nlirg": 0.71, "human": 0.7}
    return Report(
        title="Support tickets: does the tuned model keep its head?",
        created="2026-11-21T10:30:00Z",
        variants=VARIANTS,
        baseline="base",
        metrics=metrics,
        by_task=_by_task(),
        by_perturbation=_by_perturbation(),
        gates=gates,
        between=_between(metrics),
        scales=_scales(),
        verdicts={
            name: judge(by_key, [gate for gate in gates if gate.variant == name], name)
            for name in VARIANTS[1:]
        },
        cases={"domain": 10_000, "ood": 1},
        openings=[
            PhraseShare(phrase="Thank you for contacting us", shares=shares),
            PhraseShare(
                phrase="您好，感谢您联系", shares={"base": 0.0, "uniform": 0.12, "nlirg": 0.1}
            ),
            PhraseShare(phrase=HOSTILE, shares={"base": 0.01, "uniform": 0.02, "nlirg": 0.02}),
        ],
        closings=[PhraseShare(phrase="let us know if it helps", shares=shares)],
        phrases=[
            PhraseShare(phrase="Your ticket was sent to team", shares=shares),
            PhraseShare(
                phrase="If there is anything else that we can do for you today, do not hesitate to",
                shares={"base": 0.0, "uniform": 0.64, "nlirg": 0.31, "human": 0.3},
            ),
        ],
        samples=[*special, *(_sample(index) for index in range(len(special), samples))],
        flips=_flips(),
        flip_summaries=_flip_summaries(),
        training={"uniform": make_curve(1, 0.35, alarms=_ALARMS), "nlirg": make_curve(2, 0.42)},
        corpus=CorpusSummary(
            rows=1_187,
            quarantined={"empty answer": 9, "not a JSON object": 4, HOSTILE: 1},
            bands={"high": 640, "good": 402, "fair": 110, "suspect": 35},
            zones={"low": 0.52, "mid": 0.39, "high": 0.08, "discarded": 0.01},
            mean_loss=1.84,
        ),
        recipe=f"name: demo\nmodel: base_model\n# {HOSTILE}\ntrain:\n  learning_rate: 0.0002\n",
        environment={"torch": "2.13.0", "vllm": "0.32.0", "command": HOSTILE},
    )
