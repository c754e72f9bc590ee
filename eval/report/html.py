"""The report as one HTML file that needs nothing else and runs nothing a model wrote."""

from __future__ import annotations

import base64
import hashlib
import json
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from eval.report import figures, wording
from eval.schema import Report, SideBySide


def _shown(value: Any) -> Any:
    """Last step before autoescape: foreign text cannot hide or reorder what stands around it."""
    return wording.visible(value) if type(value) is str else value


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("eval.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["wording"] = wording
    return environment


@cache
def _asset(name: str) -> str:
    """A style sheet or script of this package, to be written into the page as it is."""
    text = files("eval.report").joinpath("templates", name).read_text(encoding="utf-8")
    if "</" in text:
        raise ValueError(f"{name} holds '</', which could end the element it is written into")
    return text


def _csp_source(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"


def content_policy(style: str, script: str) -> str:
    """The page's Content-Security-Policy: this style and this script, and nothing else at all."""
    return (
        f"default-src 'none'; style-src {_csp_source(style)}; script-src {_csp_source(script)}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


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
    """The samples for a JSON script element: no character in it can end that element."""
    order = [report.baseline, *wording.tuned(report)]
    colour = figures.styles(report)
    data = {
        "variants": order,
        "styles": [colour[name] for name in order],
        "samples": [_sample_row(sample, order) for sample in report.samples],
    }
    return htmlsafe_json_dumps(data, json.dumps, ensure_ascii=False, separators=(",", ":"))


def render_html(report: Report) -> str:
    """Render the report as one self-contained page.

    Everything that came from a model, a corpus or a recipe is escaped by Jinja's autoescape or,
    in the sample browser, written through `textContent`; a Content-Security-Policy with hashes
    forbids every other style, script and request.
    """
    style, script = _asset("report.css"), _asset("report.js")
    charts = {
        "Trade-off and tasks": [*figures.tradeoff(report), *figures.per_task(report)],
        "What the answers repeat": [*figures.phrases(report)],
        "Training": [*figures.training(report)],
    }
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            report=report,
            tuned=wording.tuned(report),
            columns=wording.columns(report),
            families=wording.by_family(report),
            gates={name: wording.gates_of(report, name) for name in wording.tuned(report)},
            styles=figures.styles(report),
            charts={title: found for title, found in charts.items() if found},
            corpus_charts=[*figures.corpus(report)],
            samples=_samples_json(report),
            policy=content_policy(style, script),
            style=Markup(style),  # noqa: S704 - our own file, not input
            script=Markup(script),  # noqa: S704 - our own file, not input
        )
    )
