"""Answers and results as the lm-evaluation-harness writes them, beside our own keys.

Its tools (`make_table`, the uploads to Zeno, W&B and the hub, `datasets.load_dataset`) can read
both: a suite is a task, its metrics are `acc` and `score`, the filter is always `none`. The shapes
are those of the harness's `result_schema.py`.

Not the harness's: files carry no date in their names and no environment (`env.json` has it), so
that an evaluation which was interrupted leaves the same bytes; `doc` holds a case's identity and
not its checker; versions are the first 12 digits of the hash of a suite's cases; a question whose
options were ranked stands beside those answered with text, its `resps` the likeliest option.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from eval.schema.case import Suite
from eval.schema.sample import Sample

METRICS: dict[str, Callable[[Sample], float]] = {
    "acc": lambda sample: float(sample.correct),
    "score": lambda sample: sample.score,  # also a key of ours
}
HARNESS_KEYS = (
    "doc_id",
    "doc",
    "target",
    "arguments",
    "resps",
    "filtered_resps",
    "filter",
    "metrics",
    "doc_hash",
    "prompt_hash",
    "target_hash",
    "acc",
)
DOC_KEYS = ("case_id", "root_id", "task_type", "perturbation")


def sample_row(sample: Sample, doc_id: int) -> dict[str, Any]:
    """One line of `samples_<suite>.jsonl`.

    Args:
        sample: the judged answer.
        doc_id: its place in the suite, from 0.
    """
    own = sample.model_dump(mode="json")
    doc = {key: own[key] for key in DOC_KEYS}
    harness = {
        "doc_id": doc_id,
        "doc": doc,
        "target": sample.reference,
        "arguments": {"gen_args_0": {"arg_0": sample.prompt, "arg_1": {"until": []}}},
        "resps": [[sample.answer]],
        "filtered_resps": [sample.answer],
        "filter": "none",
        "metrics": list(METRICS),
        "doc_hash": _sha256(json.dumps(doc, indent=2, ensure_ascii=False)),
        "prompt_hash": _sha256(sample.prompt),
        "target_hash": _sha256(sample.reference),
    }
    return own | harness | {name: value(sample) for name, value in METRICS.items()}


def own_part(row: Mapping[str, Any]) -> dict[str, Any]:
    """What of a line is ours: the fields of a `Sample`, and any that nobody knows."""
    return {key: value for key, value in row.items() if key not in HARNESS_KEYS}


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def harness_results(
    variant: str,
    suites: Mapping[Suite, Sequence[Sample]],
    hashes: Mapping[Suite, str],
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """The harness's part of `results_all.json`.

    Args:
        variant: stands where the harness names its model.
        suites: suite -> its samples, at least one.
        hashes: suite -> hash of its cases.
        settings: how the answers were generated.
    """
    return {
        "results": {suite: _task_results(suite, samples) for suite, samples in suites.items()},
        "group_subtasks": {suite: [] for suite in suites},
        "configs": {suite: _task_config(suite, hashes[suite]) for suite in suites},
        "versions": {suite: hashes[suite][:12] for suite in suites},
        "n-shot": dict.fromkeys(suites, 0),
        "higher_is_better": {suite: dict.fromkeys(METRICS, True) for suite in suites},
        "n-samples": {
            suite: {"original": len(samples), "effective": len(samples)}
            for suite, samples in suites.items()
        },
        "config": {"model": variant, "model_args": dict(settings)},
        "model_name": variant,
        "task_hashes": {suite: _task_hash(samples) for suite, samples in suites.items()},
    }


def _task_results(suite: Suite, samples: Sequence[Sample]) -> dict[str, Any]:
    found: dict[str, Any] = {"alias": suite, "sample_len": len(samples)}
    for name, value in METRICS.items():
        values = [value(sample) for sample in samples]
        found[f"{name},none"] = fmean(values)
        error = stdev(values) / math.sqrt(len(values)) if len(values) > 1 else "N/A"
        found[f"{name}_stderr,none"] = error
    return found


def _task_config(suite: Suite, cases_hash: str) -> dict[str, Any]:
    return {
        "task": suite,
        "output_type": "generate_until",
        "num_fewshot": 0,
        "repeats": 1,
        "metric_list": [
            {"metric": name, "aggregation": "mean", "higher_is_better": True} for name in METRICS
        ],
        "metadata": {"cases_hash": cases_hash},
    }


def _task_hash(samples: Sequence[Sample]) -> str:
    rows = (sample_row(sample, i) for i, sample in enumerate(samples))
    return _sha256("".join(r["doc_hash"] + r["prompt_hash"] + r["target_hash"] for r in rows))
