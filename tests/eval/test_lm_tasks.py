"""Results of the lm-evaluation-harness: read, compared, and the call of it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eval import lm_tasks
from eval.adapters import Adapter
from eval.config import EvaluateConfig
from eval.estimates import Setting
from eval.generate import EngineSpec
from eval.lm_tasks import check_tasks, run_tasks, task_measures, task_results
from nlirg.errors import InputError

SETTING = Setting("base", EvaluateConfig(bootstrap=400), seed=0)


def sample(doc: int, chosen: str = "none", **metrics: float) -> dict[str, Any]:
    """A logged sample as lm_eval 0.4.13 writes it."""
    return {
        "doc_id": doc,
        "doc": {"question": str(doc)},
        "target": "x",
        "arguments": [("prompt", "x")],
        "resps": [],
        "filtered_resps": [],
        "filter": chosen,
        "metrics": list(metrics),
        "doc_hash": f"{doc:064x}",
        "prompt_hash": f"{doc + 7:064x}",
        "target_hash": "0" * 64,
        **metrics,
    }


def raw(right: list[int]) -> dict[str, Any]:
    """What `simple_evaluate` returns for a task, one with two filters, and a group."""
    n, mean = len(right), sum(right) / len(right)
    return {
        "results": {
            "arc": {
                "name": "arc",
                "alias": "arc",
                "sample_len": n,
                "acc,none": mean,
                "acc_stderr,none": 0.05,
                "perplexity,none": 12.5,
                "perplexity_stderr,none": 0.5,
                "bits,none": 1.5,
                "bits_stderr,none": "N/A",
            },
            "sums": {
                "name": "sums",
                "alias": "sums",
                "sample_len": n,
                "exact_match,strict-match": 0.0,
                "exact_match_stderr,strict-match": 0.0,
                "exact_match,flexible": mean,
                "exact_match_stderr,flexible": 0.05,
            },
        },
        "group_subtasks": {"a_group_without_metrics": ["arc"]},
        "higher_is_better": {
            "arc": {"acc": True, "perplexity": False, "bits": None},
            "sums": {"exact_match": True},
        },
        "samples": {
            "arc": [sample(i, acc=float(r), perplexity=2.0) for i, r in enumerate(right)],
            "sums": [
                *[sample(i, "strict-match", exact_match=0.0) for i in range(n)],
                *[sample(i, "flexible", exact_match=float(r)) for i, r in enumerate(right)],
            ],
        },
    }


def of_group(right: list[int]) -> dict[str, Any]:
    """The same where the tasks were asked for as a group, which has a metric of its own."""
    found = raw(right)
    found["results"]["both"] = {
        "name": "both",
        "alias": "both",
        "sample_len": 2 * len(right),
        "sample_count": {"acc,none": len(right)},
        "acc,none": sum(right) / len(right),
        "acc_stderr,none": 0.04,
    }
    found["group_subtasks"] = {"both": ["arc", "sums"]}
    found["higher_is_better"]["both"] = {"acc": True}
    return found


def test_reads_values_and_filters() -> None:
    found = {f"{row.task}/{row.metric}": row for row in task_results(raw([1, 0, 1, 1]))}
    assert {key: row.value for key, row in found.items()} == {
        "arc/acc": 0.75,
        "arc/perplexity": 12.5,
        "arc/bits": 1.5,
        "sums/exact_match,strict-match": 0.0,
        "sums/exact_match,flexible": 0.75,
    }
    assert list(found["arc/acc"].samples.values()) == [1, 0, 1, 1]
    assert found["arc/perplexity"].samples == {}, "12.5 is not the mean of its samples"
    assert found["arc/bits"].stderr is None
    assert list(found["sums/exact_match,flexible"].samples.values()) == [1, 0, 1, 1]


def measured(found) -> dict[str, Any]:
    return {
        measure.key: (measure, measure.estimate({}, SETTING)) for measure in task_measures(found)
    }


def test_documents_are_compared_pair_by_pair() -> None:
    base, tuned = [1] * 30 + [0] * 10, [0] * 12 + [1] * 28
    found = measured(
        {name: list(task_results(raw(r))) for name, r in [("base", base), ("v", tuned)]}
    )
    assert list(found) == [
        "lm_eval/arc/acc",
        "lm_eval/arc/perplexity",
        "lm_eval/sums/exact_match,strict-match",
        "lm_eval/sums/exact_match,flexible",
    ], "bits has no interval"
    measure, pairs = found["lm_eval/arc/acc"]
    assert (measure.family, measure.unit, measure.better) == ("ood", "share", "higher")
    assert pairs.values["base"].value == 0.75
    assert pairs.against["v"].delta == pytest.approx(-0.05)
    assert pairs.against["v"].p_value == pytest.approx(0.8318, abs=1e-3), "McNemar, 10 against 12"
    assert found["lm_eval/arc/perplexity"][0].better == "lower"
    _, unpaired = found["lm_eval/arc/perplexity"]
    half = unpaired.values["v"].high - unpaired.values["v"].value
    assert half == pytest.approx(1.96 * 0.5, abs=1e-4)
    assert (unpaired.against, unpaired.values["v"].n) == ({}, 40)


def test_a_group_with_metrics_stands_for_its_tasks() -> None:
    rows = list(task_results(of_group([1, 0, 1, 1])))
    assert [(row.task, row.metric, row.n, row.samples) for row in rows] == [("both", "acc", 4, {})]
    _, group = measured({"base": rows, "v": rows})["lm_eval/both/acc"]
    assert group.against == {}
    half = group.values["v"].high - group.values["v"].value
    assert half == pytest.approx(1.96 * 0.04, abs=1e-4)
    assert group.values["v"].n == 4


def test_other_documents_are_not_paired_and_other_metrics_refused() -> None:
    one = list(task_results(raw([1, 0, 1])))
    moved = [
        row.model_copy(update={"samples": {f"x{k}": v for k, v in row.samples.items()}})
        for row in one
    ]
    _, found = measured({"base": one, "v": moved})["lm_eval/arc/acc"]
    assert found.against == {}
    with pytest.raises(InputError, match="'v' has other metrics"):
        task_measures({"base": one, "v": one[:1]})
    assert task_measures({}) == []


def test_a_null_comparison_shows_no_difference() -> None:
    random = np.random.default_rng(0)
    right = random.integers(0, 2, 100).tolist()
    rows = list(task_results(raw(right)))
    _, found = measured({"base": rows, "v": rows})["lm_eval/arc/acc"]
    assert (found.against["v"].delta, found.against["v"].p_value) == (0, 1)


@pytest.fixture
def calls(monkeypatch) -> list[dict[str, Any]]:
    """Arguments of the package's entry point, which needs an engine (see tests/ray)."""
    found = []

    def simple_evaluate(**arguments):
        found.append(arguments)
        if "broken" in arguments["tasks"]:
            raise ValueError("no data set\nand much more")
        return raw([1, 0])

    monkeypatch.setattr("lm_eval.simple_evaluate", simple_evaluate)
    monkeypatch.setattr(lm_tasks, "import_module", lambda name: None)
    return found


def test_the_call(calls, tiny_model_dir: Path) -> None:
    path = str(tiny_model_dir)
    spec = EngineSpec(path, path, "cpu", 256, (2,), (Adapter("v", "/adapter", 12, ("q_proj",)),))
    found = run_tasks(spec, ["arc"], limit=50)
    assert [row.value for row in found] == [0.5, 12.5, 1.5, 0, 0.5]
    (call,) = calls
    arguments = call["model_args"]
    assert (call["model"], call["tasks"], call["limit"]) == ("vllm", ["arc"], 50)
    assert arguments["pretrained"] == arguments["tokenizer"] == path
    assert arguments["lora_local_path"] == "/adapter"
    assert arguments["max_lora_rank"] == 16
    assert arguments["enable_lora"]
    assert "model" not in arguments
    run_tasks(replace(spec, adapters=()), ["arc"], limit=None)
    assert "lora_local_path" not in calls[1]["model_args"]
    with pytest.raises(InputError, match=r"lm_eval on .*: ValueError: no data set$"):
        run_tasks(spec, ["broken"], None)


def test_tasks_are_checked_before_anything_is_run(tmp_path) -> None:
    mine = tmp_path / "mine.yaml"
    with pytest.raises(InputError, match=r"evaluate.lm_eval: there is no file .*mine.yaml"):
        check_tasks(["arc_easy", str(mine)])
    mine.write_text("task: mine")
    check_tasks(["arc_easy", "gsm8k", "mmlu", str(mine)])
    with pytest.raises(InputError, match="no task 'ark_easy'; did you mean 'arc_easy'"):
        check_tasks(["gsm8k", "ark_easy"])


def test_without_the_package_it_is_said_how_to_install_it(monkeypatch) -> None:
    monkeypatch.setattr(lm_tasks, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'nlirg\[lm-eval\]'"):
        check_tasks(["arc"])
