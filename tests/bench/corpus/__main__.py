"""`make bench-corpus`: what scoring a corpus costs, how that grows with its rows, what it finds.

One thread a process; user CPU time, which what else runs on the machine hardly changes.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # read when torch is imported
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import argparse
import importlib.metadata
import warnings
from collections.abc import Callable
from pathlib import Path

from tests.bench.corpus.detectors import compare_detectors
from tests.bench.corpus.duplicates import compare_sizes
from tests.bench.corpus.ray_overhead import compare_ray
from tests.bench.corpus.scale import SIZES, compare_scale
from tests.bench.corpus.speed import compare_gpu_speed, compare_speed
from tests.bench.measure import Comparison
from tests.bench.report import report
from tests.bench.shapes import ModelShape

PARTS: dict[str, Callable[[argparse.Namespace], list[Comparison]]] = {
    "speed": lambda options: compare_speed(ModelShape(), options.rounds)[1] + compare_gpu_speed(),
    "ray": lambda options: compare_ray(ModelShape(), options.rounds),
    "scale": lambda options: compare_scale(options.rows),
    "duplicates": lambda options: compare_sizes(),
    "detectors": lambda options: compare_detectors(options.alpaca),
}
PACKAGES = ("torch", "transformers", "ray", "pyarrow", "datasketch")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.corpus", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="figures per variant")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=[*PARTS], help="parts to run")
    parser.add_argument("--rows", nargs="+", type=int, default=SIZES, help="sizes of `scale`")
    parser.add_argument("--alpaca", type=Path, help="JSON array of Alpaca rows, for `detectors`")
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    return parser.parse_args()


def main() -> None:
    """Measure and report."""
    options = arguments()
    warnings.filterwarnings("ignore")
    rows = [row for part in options.only for row in PARTS[part](options)]
    about = {name: importlib.metadata.version(name) for name in PACKAGES}
    report([], rows, about | {"parameters": ModelShape().parameters()}, options.out)


if __name__ == "__main__":
    main()
