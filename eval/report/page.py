"""What every page of ours has in common: it needs no other file and runs nothing but its script."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from eval.report import wording

HOME = "eval.report"  # the package whose templates every page may use


def _shown(value: Any) -> Any:
    """Last step before autoescape: foreign text cannot hide or reorder what stands around it."""
    return wording.visible(value) if type(value) is str else value


@cache
def _environment(package: str) -> Environment:
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(name) for name in dict.fromkeys([package, HOME])]),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["wording"] = wording
    return environment


@cache
def _asset(package: str, name: str) -> str:
    """A style sheet or script of a package, to be written into the page as it is."""
    text = files(package).joinpath("templates", name).read_text(encoding="utf-8")
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


def embedded_json(data: Any) -> Markup:
    """Data for a JSON script element: no character in it can end that element."""
    return htmlsafe_json_dumps(data, json.dumps, ensure_ascii=False, separators=(",", ":"))


def render_page(
    package: str, template: str, styles: Sequence[str], scripts: Sequence[str], **context: Any
) -> str:
    """Render one self-contained page, a template that extends `page.html.j2`.

    Everything in `context` is escaped by Jinja's autoescape. A Content-Security-Policy with hashes
    forbids every style, script and request but the page's own.

    Args:
        package: whose `templates/` hold the template; it may use those of `eval.report` too.
        template: its name.
        styles: style sheets of `package` that follow the common one.
        scripts: scripts of `package` that follow the common one.
        context: the template's variables.
    """
    sheets = [_asset(HOME, "page.css"), *(_asset(package, name) for name in styles)]
    code = [_asset(HOME, "page.js"), *(_asset(package, name) for name in scripts)]
    style, script = "\n".join(sheets), "\n".join(code)
    page = _environment(package).get_template(template)
    return page.render(
        policy=content_policy(style, script),
        style=Markup(style),  # noqa: S704 - our own file, not input
        script=Markup(script),  # noqa: S704 - our own file, not input
        **context,
    )
