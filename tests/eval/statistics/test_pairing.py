import pytest

from eval.schema.sample import Sample
from eval.statistics.pairing import pair_samples
from nlirg.errors import InputError
from tests.eval.made_samples import sample, suite_of, template_of


def test_answers_are_paired_by_case_whatever_their_order():
    base = suite_of("ood", [1, 0, 1])
    table = pair_samples({"base": base, "x": base[::-1]}, "base", 1.0)["ood"]
    assert [s.case_id for s in table.answers["x"]] == ["ood0", "ood1", "ood2"]
    assert table.left_out == 0


def test_a_case_with_an_error_anywhere_is_left_out_everywhere():
    base, tuned = suite_of("ood", [1] * 5), suite_of("ood", [1] * 5)
    base[0] = sample("ood0", False, suite="ood", finish_reason="error", error="too long")
    tuned[3] = sample("ood3", False, suite="ood", error="engine died")
    table = pair_samples({"base": base, "x": tuned}, "base", 1.0)["ood"]
    assert [s.case_id for s in table.cases] == ["ood1", "ood2", "ood4"]
    assert table.left_out == 2


def test_variants_of_one_prompt_are_one_cluster():
    rows = [sample(f"{root}~{i}", root_id=root) for root in "ab" for i in range(3)]
    table = pair_samples({"base": rows, "x": rows}, "base", 1.0)["domain"]
    assert table.clusters.tolist() == [0, 0, 0, 1, 1, 1]


GOOD = suite_of("ood", [1, 1, 0])


def test_what_cannot_be_paired_is_refused():
    def last(**changes: object) -> list[Sample]:
        return [*GOOD[:2], GOOD[2].model_copy(update=changes)]

    for other, message in [
        (GOOD[:2], "different cases .'ood2'"),
        ([], "different cases"),
        (last(prompt_sha256="x"), "different prompts"),
        ([*GOOD, GOOD[0]], "'ood0': answered twice"),
        (last(score=float("nan")), "score nan"),
        (last(score=1.5), "score 1.5"),
        (failing(GOOD, 0, 1, 2), "'ood': zero pairs"),
        (failing(GOOD, 1, 2), "'ood': one independent case"),
    ]:
        with pytest.raises(InputError, match=message):
            pair_samples({"base": GOOD, "x": other}, "base", 1.0)


def failing(rows: list[Sample], *indices: int) -> list[Sample]:
    """The samples, some of them errors."""
    broken = {"finish_reason": "error", "error": "too long"}
    return [s.model_copy(update=broken) if i in indices else s for i, s in enumerate(rows)]


def test_too_many_errors_of_one_variant_cannot_be_judged():
    rows = suite_of("ood", [1] * 100)
    for failed in (0, 5):
        samples = {"base": rows, "x": failing(rows, *range(failed))}
        assert pair_samples(samples, "base", 0.05)["ood"].left_out == failed
    for failed in (6, 100):
        message = rf"variant 'x': {failed} of 100 answers .* 'ood0', says: too"
        with pytest.raises(InputError, match=message):
            pair_samples({"base": rows, "x": failing(rows, *range(failed))}, "base", 0.05)


def test_missing_baseline_samples_and_taken_name_are_refused():
    with pytest.raises(InputError, match="no samples of the baseline"):
        pair_samples({"x": GOOD}, "base", 1.0)
    with pytest.raises(InputError, match="zero pairs"):
        pair_samples({"base": [], "x": []}, "base", 1.0)
    with pytest.raises(InputError, match="'human' stands for"):
        pair_samples({"base": GOOD, "human": GOOD}, "base", 1.0)


def test_answers_are_cut_in_pairs():
    base, x, y = template_of(["a b c", "d e"]), template_of(["a", "b c d"]), template_of(["", ""])
    table = pair_samples({"base": base, "x": x, "y": y}, "base", 1.0)["template"]
    assert table.equal_units("base", "x") == {"base": [["a"], ["d", "e"]], "x": [["a"], ["b", "d"]]}
    assert table.equal_units("base", "y") == {"base": [[], []], "y": [[], []]}


def test_references_stand_beside_the_answers_each_once():
    rows = template_of(["a b c", "d e"], reference="r s t u")
    other = template_of(["a", "b c d"])
    beside = pair_samples({"base": rows, "x": other}, "base", 1.0)["template"].beside_references
    assert beside.units == {"base": [list("abc"), list("de")], "human": [list("rstu")] * 2}
    repeated = [
        s.model_copy(update={"root_id": "one" if i < 2 else "two"})
        for i, s in enumerate(template_of(["a", "b", "c"], reference="r"))
    ]
    beside = pair_samples({"base": repeated}, "base", 1.0)["template"].beside_references
    assert beside.units == {"base": [["a"], ["c"]], "human": [["r"], ["r"]]}
    some = [*rows, sample("t9", suite="template", reference="")]
    beside = pair_samples({"base": some}, "base", 1.0)["template"].beside_references
    assert len(beside.units["human"]) == 2
    none = template_of(["a", "b"], reference="")
    assert pair_samples({"base": none}, "base", 1.0)["template"].beside_references is None


def test_errors_of_many_variants_add_up():
    rows = suite_of("ood", [1] * 100)
    samples = {"base": rows}
    samples |= {f"v{k}": failing(rows, *range(4 * k, 4 * k + 4)) for k in range(3)}
    assert pair_samples(dict(list(samples.items())[:2]), "base", 0.05)["ood"].left_out == 4
    with pytest.raises(InputError, match="'ood': 12 of 100 cases have an error for some variant"):
        pair_samples(samples, "base", 0.05)
