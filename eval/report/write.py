"""Write every form of the report into one folder."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pydantic_core import to_json

from eval.report.html import render_html
from eval.report.markdown import render_markdown
from eval.schema.report import Report

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def results_json(report: Report) -> str:
    """The report as JSON that `Report.model_validate_json` reads back.

    Numbers that are not finite become the strings "NaN", "Infinity" and "-Infinity", since JSON
    has no others; lone surrogates, which no file in UTF-8 can hold, become U+FFFD.
    """
    return to_json(_writable(report.model_dump()), indent=2, inf_nan_mode="strings").decode() + "\n"


def _writable(value: Any) -> Any:
    if isinstance(value, str):
        return value if value.isascii() else _LONE_SURROGATE.sub("\ufffd", value)
    if isinstance(value, dict):
        return {_writable(key): _writable(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_writable(entry) for entry in value]
    return value


def write_report(report: Report, folder: Path) -> None:
    """Write `index.html`, `report.md` and `results.json`; a half-written folder has no marker.

    Everything is rendered before the first file is opened, so a failure leaves the folder as it
    was.
    """
    files = {
        "index.html": render_html(report),
        "report.md": render_markdown(report),
        "results.json": results_json(report),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
