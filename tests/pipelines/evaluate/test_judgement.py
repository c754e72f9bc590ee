"""Exit codes of `nlirg evaluate` over answers on disk: kept, broken, or not to be judged."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.rundir import RunDirectory
from eval.generation.samples import samples_path, samples_text
from eval.report.verdict_text import verdict_text
from eval.schema.report import Report
from eval.schema.sample import Sample
from nlirg.atomic_io import write_json
from pipelines import cli
from pipelines.evaluate.stage import Evaluate, EvaluateSummary, check_cases
from pipelines.recipe import load_recipe
from tests.eval.made_samples import sample, suite_of, template_of
from tests.road import scored, trained

QUESTIONS = 20


def answers(domain: int, following: int = 18, commonsense: int = 18) -> dict[str, list[Sample]]:
    """One variant's samples by suite; the numbers say how many of 20 are right."""
    general = [
        sample(f"{family}{i}", i < right, suite="ood", task_type=f"{family}/{('en', 'zh')[i % 2]}")
        for family, right in (("instructions", following), ("commonsense", commonsense))
        for i in range(QUESTIONS)
    ]
    return {
        "domain": suite_of("domain", [i < domain for i in range(QUESTIONS)]),
        "template": template_of([f"answer {i} says word{i} twice" for i in range(QUESTIONS)]),
        "ood": general,
    }


class MadeRun:
    """A run whose answers are complete, as far as its files say."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.recipe = folder / "recipe.yaml"
        self.run = RunDirectory(str(folder / "runs"), "made")
        raw = {
            "name": "made",
            "storage": str(folder / "runs"),
            "model": str(model),
            "data": ["none.jsonl"],
            "holdout": 2,
            "evaluate": {"flip_samples": 0, "bootstrap": 100, "perplexity": False},
        }
        self.recipe.write_text(yaml.safe_dump(raw))
        write_json(self.run.path / "env.json", {})
        self.run.scores.succeed("mark", scored())
        arm = self.run.arm("nlirg")
        arm.succeed("mark", trained(trained_tokens=0, optimizer_steps=0))
        for name in ("metrics.jsonl", "alarms.jsonl"):
            (arm.path / name).touch()

    def write(self, variant: str, suites: dict[str, list[Sample]]) -> None:
        stage = self.run.evaluation(variant)
        stage.succeed("mark", {"suites": {name: {"n": len(s)} for name, s in suites.items()}})
        for name, samples in suites.items():
            samples_path(stage.path, name).write_text(samples_text(samples))

    def file(self, variant: str, suite: str) -> Path:
        return samples_path(self.run.evaluation(variant).path, suite)


NOTHING = EvaluateSummary(variants={}, answered=0, tokens=0, replaced=0, seconds=0.0)


@pytest.fixture
def made(tmp_path: Path, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> MadeRun:
    """A run in which the tuned variant keeps every gate; generation finds nothing to do."""
    for name in ("check_corpus", "work"):
        monkeypatch.setattr(Evaluate, name, lambda *_: NOTHING)
    made = MadeRun(tmp_path, tiny_model_dir)
    made.write("base", answers(domain=4))
    made.write("nlirg", answers(domain=19))
    return made


@pytest.fixture
def judge(made: MadeRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run `nlirg evaluate`; return its exit code, its output, and its one line of error."""

    def call(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["nlirg", "evaluate", str(made.recipe), *words])
        with pytest.raises(SystemExit) as left:
            cli.main()
        told = capsys.readouterr()
        assert len(told.err.splitlines()) <= 1
        assert made.run.report.marker.is_file() == ("report: " in told.out)
        return int(left.value.code or 0), told.out, told.err

    return call


def test_all_gates_kept_is_0(made, judge) -> None:
    code, out, error = judge()
    assert (code, error) == (0, "")
    assert "gate does not apply: nlirg: Format rate n/a" in out
    report = Report.model_validate_json((made.run.report.path / "results.json").read_text())
    states = {gate.gate: gate.state for gate in report.gates}
    assert states.pop("format_rate_min") == "not_applicable"
    assert set(states.values()) == {"passed"}
    text = verdict_text(report, "nlirg")
    assert text.answers.startswith("Learned the domain, no parroting shown, ")
    assert text.gates == "keeps all 6 gates"


def test_scales_are_judged_and_told_with_what_was_learned(made, judge) -> None:
    """At half strength the arm has learned too little for the gate on either half."""
    made.write("nlirg@0.5", answers(domain=10))
    code, out, error = judge("evaluate.scales=[0.5, 1]")
    assert (code, error) == (0, "")
    report = Report.model_validate_json((made.run.report.path / "results.json").read_text())
    curve = report.scales["nlirg"]
    assert [point.variant for point in curve.points] == ["base", "nlirg@0.5", "nlirg"]
    assert [point.domain.value for point in curve.points] == [0.2, 0.5, 0.95]
    assert "broken" not in out
    assert "nlirg learned 75.0 pts of the domain (interval " in out
    assert "nlirg: Scale 1, the arm itself, is the strongest that keeps every gate" in out
    assert report.variants == ["base", "nlirg"]  # scales are no arms


def test_a_scale_that_was_not_answered_is_2(made, judge) -> None:
    code, _, error = judge("evaluate.scales=[0.5]")
    assert code == 2
    assert "nlirg@0.5 is not complete" in error


@pytest.mark.parametrize(
    ("tuned", "told"),
    [
        (answers(domain=16), "gate broken: nlirg: Domain accuracy 80.0%, needs ≥ 85%"),
        (answers(domain=19, following=12), "Instruction following 60.0%, needs ≥ 80%"),
        (answers(domain=19, commonsense=15), "Commonsense drop 15.0 pts, needs ≤ 10 pts"),
    ],
)
def test_a_broken_gate_is_1(made, judge, tuned, told) -> None:
    made.write("nlirg", tuned)
    code, out, error = judge()
    assert (code, error) == (1, "")
    assert told in out


def test_a_gate_the_base_misses_too_says_so(made, judge) -> None:
    made.write("base", answers(domain=4, following=10))
    made.write("nlirg", answers(domain=19, following=11))
    code, out, _ = judge()
    assert code == 1
    assert "Instruction following 55.0%, needs ≥ 80%; base itself misses it with 50.0%" in out


def test_other_bounds_judge_the_same_answers_otherwise(made, judge) -> None:
    made.write("nlirg", answers(domain=16))
    assert judge()[0] == 1
    assert judge("evaluate.gates.domain_accuracy_min=0.8")[0] == 0
    assert judge("evaluate.gates.domain_accuracy_min=null")[0] == 0


def without(suite: str, variants: Sequence[str] = ("base", "nlirg")):
    """The suite was never answered by these variants."""

    def damage(made: MadeRun) -> None:
        for variant in variants:
            kept = {name: s for name, s in answers(19).items() if name != suite}
            made.file(variant, suite).unlink()
            made.write(variant, kept)

    return damage


def rewrite(suite: str, change, variants: Sequence[str] = ("nlirg",)):
    """Change the JSON rows of a suite's file."""

    def damage(made: MadeRun) -> None:
        for variant in variants:
            path = made.file(variant, suite)
            rows = [json.loads(line) for line in path.read_text().splitlines()]
            path.write_text("".join(json.dumps(row) + "\n" for row in change(rows)))

    return damage


def with_first(**fields: Any):
    return lambda rows: [rows[0] | fields, *rows[1:]]


def fail(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        row | {"finish_reason": "error", "error": "engine died"} if i < 2 else row
        for i, row in enumerate(rows)
    ]


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda made: made.file("nlirg", "ood").unlink(), "samples_ood.jsonl: cannot read"),
        (lambda made: made.run.evaluation("nlirg").marker.unlink(), "nlirg is not complete"),
        (lambda made: made.file("base", "domain").write_bytes(b"\xff\n"), "not UTF-8"),
        (
            lambda made: made.file("base", "domain").write_text("{}\n"),
            "domain.jsonl:1: not a sample",
        ),
        (rewrite("domain", lambda rows: rows[:-3]), "17 samples, but 20 were written"),
        (rewrite("domain", lambda rows: [*rows[:-1], rows[0]]), "'domain0': answered twice"),
        (rewrite("ood", with_first(case_id="other")), "answered different cases"),
        (rewrite("ood", with_first(prompt_sha256="0")), "saw different prompts for case"),
        (rewrite("domain", with_first(score=float("nan"))), "score nan is not in [0, 1]"),
        (rewrite("domain", with_first(score=float("inf"))), "score inf is not in [0, 1]"),
        (rewrite("domain", fail), "2 of 20 answers are errors, more than evaluate.max_error_share"),
        (without("domain"), "gate domain_accuracy_min: suite 'domain' has no answers"),
        (without("template"), "gate repetition_max: suite 'template' has no answers"),
        (without("ood"), "gate instruction_following_min: suite 'ood' has no answers"),
        (without("ood", ["nlirg"]), "answered different cases"),
        (
            rewrite(
                "ood",
                lambda rows: [row | {"task_type": "other"} for row in rows],
                ["base", "nlirg"],
            ),
            "gate commonsense_drop_max: 'ood' has fewer than two cases of task type",
        ),
    ],
)
def test_what_cannot_be_judged_is_2_and_told_in_one_line(made, judge, damage, told) -> None:
    assert judge()[0] == 0
    damage(made)
    code, _, error = judge()
    assert code == 2
    assert told in error


def test_zero_pairs_are_2(made, judge) -> None:
    for variant in ("base", "nlirg"):
        made.write(variant, {"domain": suite_of("domain", [1] * 20)})
    rewrite("domain", lambda rows: [row | {"error": "x"} for row in rows])(made)
    assert judge("evaluate.max_error_share=1")[::2] == (
        2,
        "error: suite 'domain': zero pairs: a comparison needs at least two cases answered by "
        "every variant\n",
    )


def test_a_broken_gate_is_1_even_where_another_cannot_be_judged(made, judge) -> None:
    for variant in ("base", "nlirg"):
        made.write(variant, answers(domain=10))
    without("template")(made)
    made.write("nlirg", {k: v for k, v in answers(domain=10).items() if k != "template"})
    code, out, _ = judge()
    assert code == 1
    assert "gate cannot be judged: nlirg: Stop rate n/a" in out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("evaluate.ood=null", "gate instruction_following_min needs two or more"),
        ("evaluate.max_cases=2", "set evaluate.gates.instruction_following_min=null"),
    ],
)
def test_gates_without_cases_are_refused_before_anything_is_asked(judge, words, told) -> None:
    code, _, error = judge(words)
    assert code == 2
    assert told in error


@pytest.mark.parametrize(
    "name", ["demo/recipe.yaml", "recipes/lora_sft.yaml", "recipes/tiny_cpu.yaml"]
)
def test_the_gates_of_shipped_recipes_have_their_cases(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(__file__).parents[3])
    recipe = load_recipe(Path("pipelines") / name)
    encode = recipe.encode.model_copy(update={"template_options": {}})  # of the recipe's own model
    changes = {"model": "pipelines/demo/base_model", "encode": encode}
    check_cases(recipe.model_copy(update=changes))
