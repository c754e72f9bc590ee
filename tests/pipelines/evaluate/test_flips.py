"""Flips sampled again: what is asked, kept, resumed and reported."""

import json
from pathlib import Path

import pytest

from eval.generation.generate import Request
from eval.generation.samples import read_samples, samples_path
from nlirg.errors import InputError
from pipelines.evaluate.flips import read_flips
from tests.road import evaluate

pytestmark = pytest.mark.usefixtures("fleet")
N = 4
LEARNED = {"one": {"q00", "q01", "q02"}, "two": {"q02", "q03"}}


def learned(request: Request, adapter: str | None) -> str:
    """Each arm has learned some cases; arm `one` is right about q01 in one of four samples."""
    name, _, number = request.key[1].partition("@")
    right = name in LEARNED.get(str(adapter), ())
    if (adapter, name) == ("one", "q01") and request.temperature:
        right = number == "0"
    return f"{name} nlirg" if right else "no idea"


@pytest.fixture
def run_of_two(make_run, fleet):
    fleet.answer = learned

    def make(name: str = "r", **more):
        settings = {"flip_samples": N, "perturbations": [], "template_cases": 3}
        return make_run(name, arms=("one", "two"), **settings | more)

    return make


def asked_again(fleet) -> list[tuple[str, str]]:
    return [(variant, case) for variant, _, case in fleet.asked if "@" in case]


def test_the_base_answers_the_flips_of_all_arms_once_and_an_arm_its_own(run_of_two, fleet) -> None:
    recipe, run = run_of_two()
    summary = evaluate(recipe, run)
    expected = {("base", f"q0{case}@{i}") for case in range(4) for i in range(N)}
    expected |= {(arm, f"{case}@{i}") for arm in LEARNED for case in LEARNED[arm] for i in range(N)}
    assert set(asked_again(fleet)) == expected
    assert len(asked_again(fleet)) == len(expected)
    assert summary.answered == len(fleet.asked)


def test_flips_say_which_gains_are_stable(run_of_two) -> None:
    recipe, run = run_of_two()
    evaluate(recipe, run)
    rows = {(row.variant, row.case_id): row for row in read_flips(run, ["one", "two"])}
    assert set(rows) == {(arm, case) for arm in LEARNED for case in LEARNED[arm]}
    assert {row.kind for row in rows.values()} == {"gain"}
    assert [key for key, row in rows.items() if not row.stable] == [("one", "q01")]
    noisy = rows["one", "q01"]
    assert (noisy.n, noisy.base_right, noisy.variant_right) == (N, 0, 1)
    kept = read_samples(samples_path(run.resamples("two").path, "domain"))
    assert [sample.root_id for sample in kept] == ["q02"] * N + ["q03"] * N


@pytest.mark.parametrize("chunks", [0, 1, 4])
def test_a_stopped_resampling_asks_only_for_what_is_missing(run_of_two, fleet, chunks) -> None:
    recipe, quiet = run_of_two("quiet")
    evaluate(recipe, quiet)
    expected = sorted(fleet.asked)
    single = 3 * 3  # chunks of single answers: three variants, 15 prompts, five at a time

    fleet.asked, fleet.stop_after = [], single + chunks
    recipe, run = run_of_two("stopped")
    with pytest.raises(KeyboardInterrupt):
        evaluate(recipe, run)
    assert not run.flips("one").exists()
    with pytest.raises(InputError, match=r"set evaluate\.flip_samples to 0"):
        read_flips(run, ["one"])
    fleet.stop_after = 10**6
    evaluate(recipe, run)
    assert sorted(fleet.asked) == expected
    for arm in LEARNED:
        assert run.flips(arm).read_text() == quiet.flips(arm).read_text()

    fleet.asked = []
    assert evaluate(recipe, run).answered == 0
    assert fleet.asked == []


def test_flips_may_be_sampled_after_an_evaluation_without(run_of_two, fleet) -> None:
    recipe, run = run_of_two(flip_samples=0)
    evaluate(recipe, run)
    assert not asked_again(fleet)
    assert not run.flips("one").exists()
    single, fleet.asked = len(fleet.asked), []
    recipe, run = run_of_two()
    evaluate(recipe, run)
    assert len(asked_again(fleet)) == len(fleet.asked) > 0
    assert single == 3 * 15


def test_models_that_agree_leave_no_flips(make_run, fleet) -> None:
    fleet.answer = lambda request, adapter: "no idea"
    recipe, run = make_run(flip_samples=N)
    evaluate(recipe, run)
    assert run.flips("nlirg").read_text() == ""
    assert read_flips(run, ["nlirg"]) == []
    assert not asked_again(fleet)


@pytest.mark.parametrize("number", [3, 8])
def test_another_number_of_answers_is_sampled_and_the_first_answers_stay(
    run_of_two, fleet, number
) -> None:
    recipe, quiet = run_of_two("quiet", flip_samples=number)
    evaluate(recipe, quiet)
    recipe, run = run_of_two()
    evaluate(recipe, run)
    first = samples_path(run.evaluation("one").path, "domain").read_text()
    fleet.asked = []
    recipe, run = run_of_two(flip_samples=number)
    evaluate(recipe, run)
    assert {case.partition("@")[2] for _, _, case in fleet.asked} == set(map(str, range(N, number)))
    assert samples_path(run.evaluation("one").path, "domain").read_text() == first
    for arm in LEARNED:
        assert run.flips(arm).read_text() == quiet.flips(arm).read_text()
        assert {row.n for row in read_flips(run, [arm])} == {number}
    kept = read_samples(samples_path(run.resamples("two").path, "domain"))
    assert len(kept) == 2 * number


def test_a_stop_on_the_way_to_more_answers_can_be_taken_back(run_of_two, fleet) -> None:
    recipe, run = run_of_two()
    evaluate(recipe, run)
    flips = run.flips("one").read_text()
    recipe, run = run_of_two(flip_samples=8)
    fleet.stop_after = 2
    with pytest.raises(KeyboardInterrupt):
        evaluate(recipe, run)
    fleet.asked, fleet.stop_after = [], 10**6
    recipe, run = run_of_two()
    evaluate(recipe, run)
    assert fleet.asked == []
    assert run.flips("one").read_text() == flips


def test_other_flips_are_sampled_where_answers_are_judged_otherwise(run_of_two, fleet) -> None:
    recipe, run = run_of_two()
    evaluate(recipe, run)
    path = Path(str(recipe.evaluate.domain))
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        if row["id"] != "q02":  # the only flip that stays
            row["checker"] = {"kind": "contains", "values": ["zebra"]}
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    fleet.asked = []
    evaluate(recipe, run)
    assert fleet.asked == []
    assert {(r.variant, r.case_id) for r in read_flips(run, ["one", "two"])} == {
        ("one", "q02"),
        ("two", "q02"),
    }


@pytest.mark.parametrize("content", ["{", "[" * 20_000, "{}", '{"variant": "\\ud83d"}'])
def test_damaged_flips_are_named(run_of_two, content) -> None:
    recipe, run = run_of_two()
    evaluate(recipe, run)
    run.flips("one").write_text(content)
    with pytest.raises(InputError, match=r"one/flips\.jsonl:1: not a flip \(.*; delete") as told:
        read_flips(run, ["one"])
    assert len(str(told.value).splitlines()) == 1
    assert "errors.pydantic.dev" not in str(told.value)
