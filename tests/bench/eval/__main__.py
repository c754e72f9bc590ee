"""`make bench-eval`: what generation and judgement cost, as ratios measured in one run.

One thread a process; user CPU time, which what else runs on the machine hardly changes.
"""

from __future__ import annotations

import os

from eval.generation.vllm_engine import engine_environment

os.environ.update(engine_environment("cpu"))  # read when torch and vLLM are imported
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import argparse
import importlib.metadata
import warnings
from collections.abc import Callable
from pathlib import Path

from tests.bench.eval.fleets import compare_fleets
from tests.bench.eval.prefixes import compare_prefixes
from tests.bench.eval.ray_overhead import compare_ray
from tests.bench.eval.reports import compare_reports
from tests.bench.measure import Comparison, Costs
from tests.bench.report import report

PARTS: dict[str, Callable[[int], tuple[list[Costs], list[Comparison]]]] = {
    "engines": compare_fleets,
    "ray": lambda rounds: ([], compare_ray(rounds)),
    "prefixes": lambda rounds: ([], compare_prefixes(rounds)),
    "report": lambda rounds: ([], compare_reports(rounds)),
}
PACKAGES = ("torch", "transformers", "peft", "ray")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.eval", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="figures per variant")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=[*PARTS], help="parts to run")
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    return parser.parse_args()


def main() -> None:
    """Measure and report."""
    options = arguments()
    warnings.filterwarnings("ignore")
    costs: list[Costs] = []
    rows: list[Comparison] = []
    for part in options.only:
        more_costs, more_rows = PARTS[part](options.rounds)
        costs += more_costs
        rows += more_rows
    about = {name: importlib.metadata.version(name) for name in PACKAGES}
    report(costs, rows, about, options.out)


if __name__ == "__main__":
    main()
