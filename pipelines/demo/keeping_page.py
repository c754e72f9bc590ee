"""Write what several seeds of the comparison of ways of keeping came to: a table and the plane."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy import stats

from eval.report.charts.plane import Point, Track, plane
from eval.report.charts.plots import Ranged
from eval.report.figures import COLOURS
from eval.schema.report import Report
from nlirg.atomic_io import write_text
from nlirg.errors import InputError

# Key of a metric, heading, digits, whether it is a share.
COLUMNS = (
    ("domain_accuracy", "tickets right", True),
    ("domain_slots", "slots right", True),
    ("retention", "kept of what the base got right", True),
    ("ood_accuracy", "general questions right", True),
    ("general_kl", "KL(base ‖ tuned), general text", False),
    ("domain_loss", "loss of human answers", False),
)
BEGIN, END = "<!-- results -->", "<!-- end of results -->"
REFERENCE = "uniform"
CONFIDENCE = 0.95
TEMPLATES = Path(__file__).parents[2] / "eval" / "report" / "templates"


def write_page(results: Sequence[Path], scaled: Sequence[Path], folder: Path) -> None:
    """Write `keeping.svg` and the results in `KEEPING.md`.

    Args:
        results: the `results.json` of every seed.
        scaled: the same of the arms that are looked at at several scales.
        folder: where the page is.

    Raises:
        InputError: if the page has no place for them.
    """
    reports, curves = (
        [Report.model_validate_json(path.read_bytes()) for path in part]
        for part in (results, scaled)
    )
    page = folder / "KEEPING.md"
    before, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise InputError(f"{page}: has no lines {BEGIN} and {END} to write the results between")
    text = "\n".join(_page(reports, curves))
    write_text(page, f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")
    write_text(folder / "keeping.svg", _drawing(reports, curves))


def values(reports: Sequence[Report], variant: str, key: str) -> list[float]:
    """Return a metric's value of a variant in every report that has it."""
    found = [
        metric.values[variant].value
        for report in reports
        for metric in report.metrics
        if metric.key == key and variant in metric.values
    ]
    return found if len(found) == len(reports) else []


def interval(numbers: Sequence[float]) -> tuple[float, float]:
    """Return mean and half width of Student's interval for it; over one number it is infinite."""
    mean, count = float(np.mean(numbers)), len(numbers)
    if count < 2:
        return mean, float("inf")
    spread = float(np.std(numbers, ddof=1)) / count**0.5
    return mean, float(stats.t.ppf((1 + CONFIDENCE) / 2, count - 1)) * spread


def _page(reports: Sequence[Report], scaled: Sequence[Report]) -> Iterator[str]:
    count = len(reports)
    yield f"## What came out ({count} seeds; means, in brackets the lowest and the highest)\n"
    yield "| arm | trained tokens | " + " | ".join(title for _, title, _ in COLUMNS) + " |"
    yield "|---" * (len(COLUMNS) + 2) + "|"
    first = reports[0]
    for variant in first.variants:
        tokens = [r.training[variant].trained_tokens for r in reports if variant in r.training]
        cells = [f"{np.mean(tokens):,.0f}" if tokens else "–"]
        cells += [_cell(values(reports, variant, key), share) for key, _, share in COLUMNS]
        yield f"| {variant} | " + " | ".join(cells) + " |"
    yield ""
    yield f"## Against `{REFERENCE}`, seed by seed\n"
    yield from _against(reports)
    yield "\n## At several strengths\n"
    yield from _scales(scaled)
    yield "\n![Learning against forgetting, means over the seeds](keeping.svg)"


def _cell(numbers: Sequence[float], share: bool) -> str:
    if not numbers:
        return "–"
    written = _share if share else _number
    low, high = min(numbers), max(numbers)
    return f"{written(float(np.mean(numbers)))} ({written(low)}–{written(high)})"


def _share(value: float) -> str:
    return f"{value:.1%}"


def _number(value: float) -> str:
    return f"{value:.3f}"


def _against(reports: Sequence[Report]) -> Iterator[str]:
    """Yield differences from the reference arm with their intervals over seeds."""
    keys = ("domain_accuracy", "domain_slots", "retention")
    titles = [title for key, title, _ in COLUMNS if key in keys]
    yield "| arm | " + " | ".join(titles) + " |"
    yield "|---" * (len(keys) + 1) + "|"
    for variant in reports[0].tuned:
        if variant == REFERENCE:
            continue
        cells = []
        for key in keys:
            mine, theirs = values(reports, variant, key), values(reports, REFERENCE, key)
            if not mine or not theirs:
                cells.append("–")
                continue
            mean, half = interval([a - b for a, b in zip(mine, theirs, strict=True)])
            sure = "" if abs(mean) > half else " (could be chance)"
            cells.append(f"{100 * mean:+.1f} ± {100 * half:.1f} points{sure}")
        yield f"| {variant} | " + " | ".join(cells) + " |"


Curve = dict[
    float, list[tuple[float, float]]
]  # scale -> domain accuracy and retention, a seed each


def _curves(reports: Sequence[Report]) -> Mapping[str, Curve]:
    found: dict[str, Curve] = defaultdict(lambda: defaultdict(list))
    for report in reports:
        for arm, curve in report.scales.items():
            for point in curve.points:
                kept = 1.0 if point.scale == 0 else getattr(point.retention, "value", float("nan"))
                found[arm][point.scale].append((point.domain.value, kept))
    return found


def _scales(reports: Sequence[Report]) -> Iterator[str]:
    """Yield every arm's means at its scales, and what was chosen."""
    curves = _curves(reports)
    scales = sorted({scale for curve in curves.values() for scale in curve if scale})
    yield "Tickets right / kept of what the base got right, at a share of the adapter's strength.\n"
    yield "| arm | " + " | ".join(f"{scale:g}" for scale in scales) + " | chosen, by seed |"
    yield "|---" * (len(scales) + 2) + "|"
    for arm, curve in curves.items():
        cells = [" / ".join(map(_share, np.mean(curve[scale], axis=0))) for scale in scales]
        chosen = [_chosen(report, arm) for report in reports]
        yield f"| {arm} | " + " | ".join(cells) + f" | {', '.join(chosen)} |"


def _chosen(report: Report, arm: str) -> str:
    choice = report.scales[arm].choice
    if choice.scale is None:
        return choice.outcome
    kept = choice.trial.retention if choice.trial else None
    told = f" ({choice.trial.domain.value:.0%} / {kept.value:.0%})" if choice.trial and kept else ""
    return f"{choice.scale:g}{told}"


def _drawing(reports: Sequence[Report], scaled: Sequence[Report]) -> str:
    """Draw the plane of the means over seeds as a file of its own."""
    first = reports[0]
    points = [_point(first.baseline, "s0", [(v, 1.0) for v in _domain(reports, first.baseline)])]
    tracks = []
    for number, arm in enumerate(first.tuned, start=1):
        style = f"s{1 + (number - 1) % (COLOURS - 1)}"
        both = list(zip(_domain(reports, arm), values(reports, arm, "retention"), strict=True))
        points.append(_point(arm, style, both))
        curve = _curves(scaled).get(arm, {})
        stops = [
            _point("" if scale in (0, 1) else f"{scale:g}", style, curve[scale])
            for scale in sorted(curve)
        ]
        tracks.append(Track(arm, style, stops))
    drawn = plane(points, "Tickets right", "Kept of what the base got right", tracks)
    css = "".join((TEMPLATES / name).read_text("utf-8") for name in ("page.css", "report.css"))
    opening, rest = str(drawn).split(">", 1)
    return f'{opening} xmlns="http://www.w3.org/2000/svg"><style>{css}</style>{rest}\n'


def _domain(reports: Sequence[Report], variant: str) -> list[float]:
    return values(reports, variant, "domain_accuracy")


def _point(name: str, style: str, both: Sequence[tuple[float, float]]) -> Point:
    sides = np.array(both)
    x, y = (Ranged(float(s.mean()), float(s.min()), float(s.max())) for s in sides.T)
    return Point(name, style, x, y)
