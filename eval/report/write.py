"""Write every form of the report into one folder."""

from __future__ import annotations

from pathlib import Path

from eval.report.html import render_html
from eval.report.markdown import render_markdown
from eval.schema import Report


def write_report(report: Report, folder: Path) -> None:
    """Write `index.html`, `report.md` and `results.json`; a half-written folder has no marker.

    Everything is rendered before the first file is opened, so a failure leaves the folder as it
    was.
    """
    files = {
        "index.html": render_html(report),
        "report.md": render_markdown(report),
        "results.json": report.model_dump_json(indent=2) + "\n",
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
