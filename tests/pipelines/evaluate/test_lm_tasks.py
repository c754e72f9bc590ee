"""Harness tasks in a run: which models are asked, what is kept, what the report gets."""

from pathlib import Path

import pytest

from eval.harness.tasks import TaskResult
from nlirg.errors import InputError
from pipelines.evaluate import lm_tasks
from pipelines.evaluate import stage as stage
from pipelines.evaluate.generation import BASE
from pipelines.evaluate.lm_tasks import lm_eval_measures
from tests.road import evaluate

pytestmark = pytest.mark.usefixtures("fleet")


@pytest.fixture
def asked(monkeypatch) -> list:
    """Engines on which tasks were run, in this process instead of in a Ray task."""
    found = []

    def in_process(recipe, name, variants, work, *arguments, **resources):
        assert resources == {"gpus": 1, "offline": False}
        for variant in variants:
            yield variant, work(variant, "cpu", *arguments)

    def run_tasks(spec, names, limit):
        found.append((spec, names, limit))
        right = 1.0 if spec.adapters else 0.0
        samples = {str(i): right if i else 1.0 for i in range(10)}
        return [
            TaskResult(
                task="arc",
                metric="acc",
                value=sum(samples.values()) / 10,
                stderr=0.1,
                n=10,
                higher_is_better=True,
                samples=samples,
            )
        ]

    monkeypatch.setattr(lm_tasks, "run_each", in_process)
    monkeypatch.setattr(lm_tasks, "run_tasks", run_tasks)
    return found


def test_base_and_arm_run_the_tasks_once(make_run, asked) -> None:
    recipe, run = make_run(lm_eval=["arc"], max_cases=7, perturbations=[], template_cases=3)
    evaluate(recipe, run)
    evaluate(recipe, run)
    (base, names, limit), (arm, _, _) = asked
    assert (names, limit) == (("arc",), 7)
    assert base.adapters == ()
    assert arm.model == base.model
    assert [adapter.name for adapter in arm.adapters] == ["nlirg"]
    (measure,) = lm_eval_measures(recipe, run, BASE)
    assert (measure.key, measure.unit) == ("lm_eval/arc/acc", "share")


def test_a_task_file_that_was_changed_is_run_again(make_run, asked, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "mine.yaml"
    file.write_text("task: mine")
    recipe, run = make_run(lm_eval="mine.yaml", perturbations=[], template_cases=3)
    evaluate(recipe, run)
    evaluate(recipe, run)
    assert [names for _, names, _ in asked] == [(str(file),)] * 2
    file.write_text("task: other")
    evaluate(recipe, run)
    assert len(asked) == 4


@pytest.mark.parametrize("changed", ["shared.yaml", "data.json", "code.py"])
def test_a_task_is_run_again_if_what_it_includes_or_reads_was_changed(
    make_run, asked, tmp_path, monkeypatch, changed
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(
        "task: mine\ninclude: shared.yaml\ndoc_to_text: !function code.text\n"
        "dataset_kwargs:\n  data_files: {test: data.json}\n"
    )
    for name in ("shared.yaml", "data.json", "code.py", "other.json"):
        Path(name).write_text("a: 1")
    recipe, run = make_run(lm_eval="mine.yaml", perturbations=[], template_cases=3)
    evaluate(recipe, run)
    Path("other.json").write_text("b: 22")
    evaluate(recipe, run)
    assert len(asked) == 2
    Path(changed).write_text("b: 22")
    evaluate(recipe, run)
    assert len(asked) == 4


def test_metrics_that_are_not_in_the_report_are_told(make_run, asked, monkeypatch, capsys) -> None:
    run_tasks = lm_tasks.run_tasks

    def with_bits(*arguments):
        (arc,) = run_tasks(*arguments)
        bits = {"metric": "bits", "samples": {}, "stderr": None}
        return [arc, arc.model_copy(update=bits)]

    monkeypatch.setattr(lm_tasks, "run_tasks", with_bits)
    recipe, run = make_run(lm_eval=["arc"], perturbations=[], template_cases=3)
    evaluate(recipe, run)
    capsys.readouterr()
    assert [m.key for m in lm_eval_measures(recipe, run, BASE)] == ["lm_eval/arc/acc"]
    told = capsys.readouterr().err
    assert "[lm_eval] not in the report" in told
    assert told.endswith("documents: arc: bits\n")


def test_damaged_results_are_named_with_what_to_do(make_run, asked) -> None:
    recipe, run = make_run(lm_eval=["arc"], perturbations=[], template_cases=3)
    evaluate(recipe, run)
    (run.evaluation("nlirg").path / "lm_eval.json").write_text('{"fingerprint": ')
    with pytest.raises(InputError, match=r"nlirg/lm_eval\.json: damaged \(.*\); delete it and"):
        lm_eval_measures(recipe, run, BASE)


def test_results_that_are_missing_are_named(make_run, asked) -> None:
    recipe, run = make_run(lm_eval=["arc"], perturbations=[], template_cases=3)
    with pytest.raises(InputError, match=r"base/lm_eval.json: missing; evaluate"):
        lm_eval_measures(recipe, run, BASE)
    evaluate(recipe, run)
    (run.evaluation("nlirg").path / "lm_eval.json").unlink()
    with pytest.raises(InputError, match=r"nlirg/lm_eval.json: missing; evaluate"):
        lm_eval_measures(recipe, run, BASE)
    evaluate(recipe, run)
    assert len(asked) == 3


def test_without_the_extra_nothing_is_started(make_run, monkeypatch) -> None:
    monkeypatch.setattr("eval.harness.tasks.find_spec", lambda name: None)
    gates = {"instruction_following_min": None, "commonsense_drop_max": None}
    gates |= {"retention_drop_max": None}
    recipe, _ = make_run(lm_eval="arc", gates=gates)
    with pytest.raises(InputError, match=r"pip install 'nlirg\[lm-eval\]'"):
        stage.check_cases(recipe)


def test_by_default_nothing_is_run(make_run, asked) -> None:
    recipe, run = make_run(perturbations=[], template_cases=3)
    evaluate(recipe, run)
    assert (asked, lm_eval_measures(recipe, run, BASE)) == ([], [])
