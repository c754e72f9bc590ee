"""The report as one HTML file that needs nothing else and runs nothing a model wrote."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from eval.report import figures, seeds, training, wording
from eval.report.between import pair_texts
from eval.report.page import HOME, embedded_json, render_page
from eval.report.plane import plane_figure
from eval.report.scale_text import costs, scale_texts
from eval.report.verdict_text import verdict_text
from eval.schema.case import Suite
from eval.schema.report import Report, SideBySide
from eval.schema.sample import FlipResample

Again = Mapping[tuple[str, Suite, str], FlipResample]  # by variant, suite and case


def _sample_row(sample: SideBySide, variants: list[str], resampled: Again) -> dict[str, Any]:
    """Return a sample as the page's script reads it; its answers in the order of `variants`."""
    answers = [sample.answers.get(variant) for variant in variants]
    again = [resampled.get((variant, sample.suite, sample.case_id)) for variant in variants]
    return {
        "id": wording.visible(sample.case_id),
        "suite": sample.suite,
        "task": wording.visible(sample.task_type),
        "change": wording.visible(sample.perturbation),
        "prompt": wording.visible(sample.prompt),
        "reference": wording.visible(sample.reference),
        "answers": [
            answer and [wording.visible(answer.text), answer.correct, answer.finish_reason]
            for answer in answers
        ],
        "again": [
            flip and [flip.n, flip.base_right, flip.variant_right, flip.stable] for flip in again
        ],
    }


def _samples_json(report: Report) -> Markup:
    """Return the samples for the page's script."""
    order = [report.baseline, *report.tuned]
    colour = figures.styles(report)
    again = {(flip.variant, flip.suite, flip.case_id): flip for flip in report.flips}
    return embedded_json(
        {
            "variants": order,
            "styles": [colour[name] for name in order],
            "samples": [_sample_row(sample, order, again) for sample in report.samples],
        }
    )


def _cut_suites(report: Report) -> list[str]:
    """Write `2,500 of 6,000 reworded` for each suite that is not shown whole."""
    shown = Counter(sample.suite for sample in report.samples)
    return [
        f"{shown[suite]:,} of {cases:,} {wording.SUITE_NAMES[suite]}"
        for suite, cases in report.cases.items()
        if shown[suite] < cases
    ]


def render_html(report: Report) -> str:
    """Render the report as one self-contained page.

    Everything that came from a model, a corpus or a recipe is escaped by Jinja's autoescape or,
    in the sample browser, written through `textContent`; see `eval.report.page` for the rest.
    """
    main, others = figures.task_keys(report)
    arms = {arm: [*training.of_arm(arm, curve)] for arm, curve in report.training.items()}
    changes = [row for row in report.by_perturbation if row.key == "robustness_change"]
    return render_page(
        HOME,
        "report.html.j2",
        styles=["report.css"],
        scripts=["report.js"],
        report=report,
        tuned=report.tuned,
        verdicts={name: verdict_text(report, name) for name in report.tuned},
        columns=wording.columns(report),
        families=wording.by_family(report),
        gates={name: wording.gates_of(report, name) for name in report.tuned},
        styles_of=figures.styles(report),
        seed_rows=seeds.seed_table(report),
        plane=[*plane_figure(report)],
        costs=costs(report),
        scales=scale_texts(report),
        pairs=pair_texts(report),
        tasks=[*figures.per_task(report, main)],
        more_tasks=[*figures.per_task(report, others)],
        rewordings=[*figures.rewordings(report)],
        changes=changes,
        repeats=[*figures.phrases(report)],
        losses=[*training.losses(report)],
        per_arm={arm: charts for arm, charts in arms.items() if charts},
        alarms=training.alarms(report),
        corpus_charts=[*figures.corpus(report)],
        samples=_samples_json(report),
        cut=_cut_suites(report),
    )
