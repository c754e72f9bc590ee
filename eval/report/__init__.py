"""The before/after report as one HTML page, as Markdown, and as a table on the terminal."""

from eval.report.html import render_html
from eval.report.markdown import render_markdown
from eval.report.scale_text import scale_lines
from eval.report.terminal import gate_lines, terminal_table
from eval.report.write import write_report

__all__ = [
    "gate_lines",
    "render_html",
    "render_markdown",
    "scale_lines",
    "terminal_table",
    "write_report",
]
