"""What judging and drawing a report of many samples costs."""

from __future__ import annotations

import multiprocessing
import random
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

from eval.config import EvaluateConfig
from eval.schema.case import Suite
from eval.schema.report import Report
from eval.schema.sample import Sample
from tests.bench.measure import Comparison

SAMPLES = 10_000
SECONDS, MEGABYTES = 10.0, 500.0
SHARES: dict[Suite, float] = {"domain": 0.3, "robustness": 0.4, "template": 0.1, "ood": 0.2}
WORDS = [f"word{i}" for i in range(2000)]


class Cost(NamedTuple):
    """Of one report: CPU and wall seconds, peak memory of the process, size of the page."""

    cpu: float
    wall: float
    megabytes: float
    page_megabytes: float


def made_samples(variant: str, count: int) -> list[Sample]:
    """Judged answers of some hundred characters; the same prompts for every variant."""
    words = random.Random(variant)
    found = []
    for suite, share in SHARES.items():
        for number in range(round(count * share)):
            root = f"{suite}{number // 4 if suite == 'robustness' else number}"
            correct = words.random() < 0.7
            found.append(
                Sample(
                    case_id=f"{suite}{number}",
                    root_id=root,
                    suite=suite,
                    task_type=f"task{number % 5}",
                    perturbation=f"kind{number % 4}" if suite == "robustness" else "",
                    prompt=f"prompt {number} " + " ".join(WORDS[number % 500 : number % 500 + 40]),
                    prompt_sha256=f"{suite}{number}",
                    reference="reference",
                    answer=" ".join(words.choices(WORDS, k=60)),
                    finish_reason="stop",
                    tokens=60,
                    score=float(correct),
                    correct=correct,
                )
            )
    return found


def build_report(samples: int) -> Cost:
    """Judge and draw base and one tuned variant, with `samples` answers together."""
    from eval.report import write_report
    from eval.verdict.compare import compare

    variants = ["base", "tuned"]
    by_variant = {name: made_samples(name, samples // len(variants)) for name in variants}
    cpu, wall = time.process_time(), time.perf_counter()
    judged = compare(by_variant, "base", EvaluateConfig(), seed=0)
    report = Report(
        title="benchmark",
        created="2000-01-01T00:00:00+00:00",
        **dict(judged),
        training={},
        corpus=None,
        recipe="",
        environment={},
    )
    with tempfile.TemporaryDirectory() as folder:
        write_report(report, Path(folder))
        page = (Path(folder) / "index.html").stat().st_size / 1e6
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return Cost(cpu, wall, peak, page)


def compare_reports(rounds: int, samples: int = SAMPLES) -> list[Comparison]:
    """Seconds and memory as shares of what is allowed."""
    costs = []
    for _ in range(rounds):
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            costs.append(pool.submit(build_report, samples).result())
    title = f"judging and drawing {samples:,} answers, as a share of what is allowed"
    worst = max(costs)
    return [
        Comparison.of(
            title,
            f"CPU time / {SECONDS:.0f} s",
            [one.cpu / SECONDS for one in costs],
            goal=1.0,
            at_least=False,
            note=f"{worst.cpu:.1f} s of CPU, {worst.wall:.1f} s, {worst.page_megabytes:.1f} MB",
        ),
        Comparison.of(
            title,
            f"peak memory / {MEGABYTES:.0f} MB",
            [one.megabytes / MEGABYTES for one in costs],
            goal=1.0,
            at_least=False,
            note=f"{max(one.megabytes for one in costs):.0f} MB, the interpreter's included",
        ),
    ]
