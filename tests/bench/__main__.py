"""`make bench-train`: the trainer's speed and memory as ratios measured in one run.

One thread; user CPU time, which what else runs on the machine hardly changes; the variants of a
table in turns, round by round.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # read when torch is imported
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import argparse
import importlib.metadata
import importlib.util
import warnings
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from tests.bench.gpu import compare_gpu
from tests.bench.keeping import compare_keeping
from tests.bench.measure import Comparison, Costs
from tests.bench.memory import compare_memory
from tests.bench.padding import compare_padding
from tests.bench.ray_overhead import compare_ray
from tests.bench.report import report
from tests.bench.shapes import LONG, SHORT, ModelShape
from tests.bench.whole import compare_whole
from tests.bench.windows import compare_windows
from tests.bench.y_trainer import compare_reference

PARTS = ("windows", "whole", "padding", "keeping", "memory", "ray")
BATCH_SIZES = (1, 8)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="figures per variant")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts to run")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    parser.add_argument("--y-trainer", type=Path, help="checkout of the reference implementation")
    parser.add_argument("--y-trainer-command", help="its command, with {model} {data} {output}")
    return parser.parse_args()


def windows(options: argparse.Namespace) -> tuple[list[Costs], list[Comparison]]:
    """Windows against the naive loop, and the reference itself if there is a checkout."""
    model, costs, rows = ModelShape(), [], []
    for shape in (SHORT, LONG):
        for batch_size in BATCH_SIZES:
            for lora in (False, True):
                if lora and shape is LONG and batch_size > 1:
                    continue  # would take a quarter of an hour and say what batch_size 1 says
                found, more = compare_windows(model, shape, batch_size, options.rounds, lora)
                costs.append(found)
                rows += more
    if options.y_trainer is not None:
        command = options.y_trainer_command
        rows.append(compare_reference(options.y_trainer, command, model, SHORT, costs[0]))
    return costs, rows


def cpu(options: argparse.Namespace) -> tuple[list[Costs], list[Comparison]]:
    """All parts that were asked for."""
    model, rounds = ModelShape(), options.rounds
    costs: list[Costs] = []
    rows: list[Comparison] = []
    if "windows" in options.only:
        found, more = windows(options)
        costs += found
        rows += more
    if "whole" in options.only:
        whole, more = compare_whole(model, SHORT, max(BATCH_SIZES), rounds)
        costs.append(whole)
        rows += more
    if "padding" in options.only:
        rows += compare_padding(model, max(BATCH_SIZES), steps=6, rounds=rounds)
    if "keeping" in options.only:
        rows += compare_keeping(model, SHORT, rounds)
    if "memory" in options.only:
        rows += compare_memory()
    if "ray" in options.only:
        rows += compare_ray(model, rounds)
    return costs, rows


def about(options: argparse.Namespace) -> dict[str, Any]:
    """What was measured with what."""
    packages = ("torch", "transformers", "peft", "deepspeed", "ray", "trl")
    installed = {
        name: importlib.metadata.version(name)
        if importlib.util.find_spec(name)
        else "not installed"
        for name in packages
    }
    return {"parameters": ModelShape().parameters(), "rounds": options.rounds, **installed}


def main() -> None:
    """Measure and report."""
    options = arguments()
    if (options.y_trainer is None) != (options.y_trainer_command is None):
        raise SystemExit("--y-trainer and --y-trainer-command go together")
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    if options.device == "cuda":
        costs: list[Costs] = []
        rows = compare_gpu()
    else:
        with Console(stderr=True).status("measuring"):
            costs, rows = cpu(options)
    report(costs, rows, about(options), options.out)


if __name__ == "__main__":
    main()
