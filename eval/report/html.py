"""The report as one HTML file that needs nothing else and runs nothing a model wrote."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from eval.report import figures, wording
from eval.report.page import HOME, embedded_json, render_page
from eval.schema import Report, SideBySide


def _sample_row(sample: SideBySide, variants: list[str]) -> dict[str, Any]:
    """One sample as the page's script reads it; its answers in the order of `variants`."""
    found = [sample.answers.get(variant) for variant in variants]
    return {
        "id": wording.visible(sample.case_id),
        "suite": sample.suite,
        "task": wording.visible(sample.task_type),
        "change": wording.visible(sample.perturbation),
        "prompt": wording.visible(sample.prompt),
        "reference": wording.visible(sample.reference),
        "answers": [
            answer and [wording.visible(answer.text), answer.correct, answer.finish_reason]
            for answer in found
        ],
    }


def _samples_json(report: Report) -> Markup:
    """The samples for the page's script."""
    order = [report.baseline, *wording.tuned(report)]
    colour = figures.styles(report)
    return embedded_json(
        {
            "variants": order,
            "styles": [colour[name] for name in order],
            "samples": [_sample_row(sample, order) for sample in report.samples],
        }
    )


def render_html(report: Report) -> str:
    """Render the report as one self-contained page.

    Everything that came from a model, a corpus or a recipe is escaped by Jinja's autoescape or,
    in the sample browser, written through `textContent`; see `eval.report.page` for the rest.
    """
    charts = {
        "Trade-off and tasks": [*figures.tradeoff(report), *figures.per_task(report)],
        "What the answers repeat": [*figures.phrases(report)],
        "Training": [*figures.training(report)],
    }
    return render_page(
        HOME,
        "report.html.j2",
        styles=["report.css"],
        scripts=["report.js"],
        report=report,
        tuned=wording.tuned(report),
        columns=wording.columns(report),
        families=wording.by_family(report),
        gates={name: wording.gates_of(report, name) for name in wording.tuned(report)},
        styles_of=figures.styles(report),
        charts={title: found for title, found in charts.items() if found},
        corpus_charts=[*figures.corpus(report)],
        samples=_samples_json(report),
    )
