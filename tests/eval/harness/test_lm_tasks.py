"""Results of the lm-evaluation-harness: read, compared, and the call of it."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eval.generation.adapters import Adapter
from eval.generation.generate import EngineSpec
from eval.harness import tasks
from eval.harness.task_files import read_task_file
from eval.harness.tasks import check_tasks, run_tasks, task_measures, task_results, without_interval
from eval.statistics.estimates import ComparisonConfig
from nlirg.errors import InputError

CONFIG = ComparisonConfig("base", bootstrap=400, confidence=0.95, seed=0)


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
        measure.key: (measure, measure.estimate({}, CONFIG)) for measure in task_measures(found)
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
    rows = list(task_results(raw(base)))
    assert without_interval({"base": rows, "v": rows}) == ["arc: bits"]
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
    for base, tuned in ((one, one[:1]), (one[:1], one), ([], one), (one, [])):
        with pytest.raises(InputError, match=r"'v' has other metrics than 'base'.*delete lm_eval"):
            task_measures({"base": base, "v": tuned})
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
        returned = raw([1, 0])
        if "empty" in arguments["tasks"]:
            returned["results"]["empty"] = {"alias": "empty", "sample_len": 2, "acc,none": math.nan}
        return returned

    monkeypatch.setattr("lm_eval.simple_evaluate", simple_evaluate)
    monkeypatch.setattr(tasks, "import_module", lambda name: None)
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


def test_a_task_that_comes_to_nothing_is_named(calls, tiny_model_dir: Path) -> None:
    path = str(tiny_model_dir)
    spec = EngineSpec(path, path, "cpu", 256, (2,))
    with pytest.raises(InputError, match="empty gave no metric that is a finite number; leave it"):
        run_tasks(spec, ["arc", "empty"], limit=50)


def test_tasks_and_groups_below_a_group_with_metrics_may_have_none(monkeypatch, calls) -> None:
    inner = of_group([1, 0])
    inner["results"] |= {"outer": {"alias": "outer", "sample_len": 0}, "arc": {"alias": "arc"}}
    inner["group_subtasks"] |= {"outer": ["both"], "sums": []}
    monkeypatch.setattr("lm_eval.simple_evaluate", lambda **_: inner)
    spec = EngineSpec("m", "m", "cpu", 256, (2,))
    monkeypatch.setattr(tasks, "engine_options", lambda spec: {"model": "m"})
    assert [row.task for row in run_tasks(spec, ["outer"], None)] == ["both"]


def test_tasks_are_checked_before_anything_is_run(tmp_path) -> None:
    mine = tmp_path / "mine.yaml"
    with pytest.raises(InputError, match=r"evaluate.lm_eval: there is no file .*mine.yaml"):
        check_tasks(["arc_easy", str(mine)])
    mine.write_text("task: mine")
    check_tasks(["arc_easy", "gsm8k", "mmlu", str(mine)])
    with pytest.raises(InputError, match="no task 'ark_easy'; did you mean 'arc_easy'"):
        check_tasks(["gsm8k", "ark_easy"])


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"task: [", "mine.yaml is not YAML: while parsing"),
        (b"task: \xff\xfe", "mine.yaml is not YAML: "),
        (b"[" * 20_000, "mine.yaml is not YAML: nested too deep"),
        (b"- mine", "mine.yaml is not a mapping of keys"),
        (b"", "mine.yaml is not a mapping of keys"),
        (b"dataset_path: json", "mine.yaml has no key `task` or `group`"),
        (b"task:", "mine.yaml has no key `task` or `group`"),
        (b"task: [one, two]", "mine.yaml has no key `task` or `group`"),
        (b"task: mine\ninclude: none.yaml", "there is no file .*none.yaml"),
        (b"task: mine\ninclude: mine.yaml", "mine.yaml is included twice, or includes itself"),
        (b"task: !other x", "mine.yaml is not YAML: could not determine a constructor"),
    ],
)
def test_a_file_that_defines_no_task_is_told_in_one_line(tmp_path, content, told) -> None:
    file = tmp_path / "mine.yaml"
    file.write_bytes(content)
    with pytest.raises(InputError, match=rf"evaluate\.lm_eval: .*{told}") as error:
        check_tasks([str(file)])
    assert len(str(error.value).splitlines()) == 1


def test_files_may_include_the_name_of_their_task_and_name_code_that_is_not_run(tmp_path) -> None:
    (tmp_path / "shared").write_text("task: theirs\ndataset_path: json\nnum_fewshot: 2")
    file = tmp_path / "mine.yaml"
    file.write_text("include: shared\nnum_fewshot: 0\ndoc_to_text: !function broken.text")
    (tmp_path / "broken.py").write_text("raise SystemExit")
    found = read_task_file(str(file))
    assert (found.config["task"], found.config["num_fewshot"]) == ("theirs", 0)
    assert [path.name for path in found.files] == ["mine.yaml", "shared", "broken.py"]
    group = tmp_path / "group.yaml"
    group.write_text("group: mine\ntask: [arc_easy]")
    check_tasks([str(file), str(group)])


@pytest.mark.parametrize(
    ("named", "found"),
    [
        ("one.json", ["one.json"]),
        ("[one.json, two.json]", ["one.json", "two.json"]),
        ("{test: one.json, train: [two.json]}", ["one.json", "two.json"]),
        ("'*.json'", ["one.json", "two.json"]),
        ("https://host/one.json", []),
        ("three.json", []),
        ("null", []),
    ],
)
def test_local_data_of_a_task_is_found(tmp_path, monkeypatch, named, found) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("one.json", "two.json"):
        (tmp_path / name).write_text("{}")
    file = tmp_path / "mine.yaml"
    file.write_text(f"task: mine\ndataset_kwargs: {{data_files: {named}}}")
    assert [path.name for path in read_task_file("mine.yaml").files[1:]] == found
    monkeypatch.chdir(tmp_path.parent)
    file.write_text(f"task: t\ndataset_kwargs:\n  data_dir: {tmp_path}\n  data_files: {named}")
    assert [path.name for path in read_task_file(str(file)).files[1:]] == found


def test_the_harness_reads_task_files_as_we_do(tmp_path) -> None:
    """What is refused here it would refuse as well, and the other way round."""
    from lm_eval.tasks._index import TaskIndex

    for content in ("task: a", "group: a\ntask: [b]", "x: 1", "task: [", "task:", "- a"):
        file = tmp_path / "mine.yaml"
        file.write_text(content)
        try:
            usable = TaskIndex.entry_from_path(file) is not None
        except Exception:
            usable = False
        if usable:
            check_tasks([str(file)])
        else:
            with pytest.raises(InputError):
                check_tasks([str(file)])


def test_without_the_package_it_is_said_how_to_install_it(monkeypatch) -> None:
    monkeypatch.setattr(tasks, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'nlirg\[lm-eval\]'"):
        check_tasks(["arc"])
