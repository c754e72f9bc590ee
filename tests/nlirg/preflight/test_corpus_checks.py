from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlirg.labels import IGNORE
from nlirg.preflight import corpus_checks
from nlirg.preflight.corpus_checks import Check, Fault, Probe, first_change

END, EOS, WORD = 2, 3, 9
NAMES = {END: "<end>", EOS: "<eos>", WORD: "word"}


def probe(
    trained: Sequence[int] = (WORD, WORD, END),
    prompt: int = 3,
    full: int | None = None,
    answer: str = "yes",
    characters: int = 20,
    lost: str = "",
) -> Probe:
    ids = np.array([1] * prompt + list(trained), np.int64)
    labels = np.where(np.arange(len(ids)) < prompt, IGNORE, ids)
    return Probe("c.jsonl:1", answer, characters, full or len(ids), ids, labels, lost)


LEFT_OUT = Probe("c.jsonl:2", "a", 400, 100, np.empty(0, np.int64), np.empty(0, np.int64), lost="")


def test_rows_tell_each_reason_once_with_its_first_place() -> None:
    assert corpus_checks.check_rows([probe()], [], "all", 0.1, 1).status == "ok"
    faults = [
        Fault("c.jsonl:4", "prompt has 612 tokens"),
        Fault("c.jsonl:7", "no instruction"),
        Fault("c.jsonl:9", "prompt has 700 tokens"),
    ]
    check = corpus_checks.check_rows(
        [replace(probe(), place=f"c.jsonl:{n}") for n in range(5)], faults, "all", 0.5, 8
    )
    assert check.status == "warn"
    assert "5 of 8" in check.measured
    assert "2 x prompt has # tokens (e.g. c.jsonl:4)" in check.measured
    assert corpus_checks.check_rows([], faults, "all", 0.5, 3).status == "fail"


def test_lengths_give_the_share_that_is_trained() -> None:
    check = corpus_checks.check_lengths([probe(prompt=6), probe(prompt=6)], 64)
    assert check.status == "ok"
    assert "33.3% of tokens trained" in check.measured
    assert "untrained 6, 6, 6, trained 3, 3, 3" in check.measured
    assert corpus_checks.check_lengths([LEFT_OUT], 64).status == "fail"


def test_truncation_counts_what_is_cut_and_what_is_left_out() -> None:
    fine = [probe(full=10)] * 38
    assert corpus_checks.check_truncation(fine, 10).status == "ok"
    bound = corpus_checks.check_truncation([*fine, probe(full=11), LEFT_OUT], 10)
    assert bound.status == "ok"
    assert "5% of samples" in bound.measured
    beyond = corpus_checks.check_truncation([*fine, probe(full=20), probe(full=20), LEFT_OUT], 10)
    assert beyond.status == "warn"
    assert "2 cut, 1 left out" in beyond.measured
    assert "100 tokens" in beyond.advice
    kept, total = 38 * 10 + 20, 38 * 10 + 40 + 100
    assert f"{100 * (1 - kept / total):.1f}% of all tokens lost" in beyond.measured


def ends(probes: Sequence[Probe], stops: Sequence[int] = (END, EOS)) -> Check:
    return corpus_checks.check_end_of_turn(probes, 10, {END, EOS}, set(stops), NAMES)


def test_end_of_turn_must_be_trained_and_must_stop_a_generation() -> None:
    good, cut = probe(), probe((WORD, WORD), full=50)
    assert ends([good] * 9 + [cut]).status == "ok"
    assert "encode.max_length" in ends([good, cut]).advice
    assert "template" in ends([good, probe((WORD, WORD))]).advice
    assert ends([cut, cut]).status == "fail"
    assert ends([]).status == "fail"
    unheeded = ends([good], stops=[EOS])
    assert unheeded.status == "warn"
    assert "generation_config.json" in unheeded.advice


def test_an_end_token_in_the_prompt_is_not_a_trained_one() -> None:
    ids = np.array([1, END, WORD])
    fooled = Probe("c:1", "a", 9, 3, ids, np.array([IGNORE, IGNORE, WORD]), "")
    assert ends([fooled]).status == "fail"


def test_round_trip_shows_the_first_change() -> None:
    assert corpus_checks.check_round_trip([probe()]).status == "ok"
    few = corpus_checks.check_round_trip([probe(), probe(), probe(lost="prompt changed")])
    assert few.status == "warn"
    assert "c.jsonl:1: prompt changed" in few.measured
    assert corpus_checks.check_round_trip([probe(lost="x"), probe(lost="x")]).status == "fail"


def test_vocabulary_notices_a_script_spelt_in_bytes_and_unknown_tokens() -> None:
    assert corpus_checks.check_vocabulary([probe(characters=20)], None).status == "ok"
    assert corpus_checks.check_vocabulary([probe(characters=2)], None).status == "warn"
    assert corpus_checks.check_vocabulary([probe((WORD, END))], unknown_id=WORD).status == "warn"


def test_one_answer_among_many_rows_jumps_out() -> None:
    different = [probe(answer=str(n)) for n in range(95)]
    assert corpus_checks.check_duplicates(different, "answers").status == "ok"
    repeated = [probe(answer=" the same ")] * 3 + [probe(answer="the same")] * 3
    check = corpus_checks.check_duplicates(different + repeated, "answers")
    assert check.status == "warn"
    assert "'the same', stands in 5.9%" in check.measured
    assert corpus_checks.check_duplicates([probe()] * 20, "answers").status == "fail"
    assert corpus_checks.check_duplicates([probe()] * 2, "answers").status == "ok", "chance"


@given(text=st.text(max_size=20), other=st.text(max_size=20))
def test_first_change_is_empty_exactly_for_equal_texts(text: str, other: str) -> None:
    assert (first_change(text, other) == "") == (text == other)


def test_first_change_points_at_the_character() -> None:
    assert first_change("naive café", "naive cafe").startswith("changed at character 10:")
    assert first_change("whole", "who").startswith("changed at character 4:")


def test_the_first_token_of_a_sample_is_never_trained() -> None:
    assert corpus_checks.trained_tokens(np.array([5, IGNORE, 6])).tolist() == [6]


@given(share=st.floats(0, 1))
def test_percentages_never_round_something_to_nothing_or_a_part_to_all(share: float) -> None:
    told = corpus_checks.percent(share)
    assert (told == "0%") == (share == 0)
    assert (told == "100%") == (share == 1)


def test_a_template_of_another_model_is_told() -> None:
    assert corpus_checks.check_template({}).status == "ok"
    check = corpus_checks.check_template({"no tools": 3}, ["<|eot_id|>"])
    assert check.status == "warn"
    assert "writes <|eot_id|>, which the tokenizer has not; no tools (3 rows)" in check.measured


@pytest.mark.parametrize(
    ("limit", "total", "status"),
    [
        (0.5, 100, "warn"),
        (0.1, 100, "fail"),
        (25, 100, "warn"),
        (24, 100, "fail"),
        (24, 90, "warn"),
    ],
)
def test_more_bad_rows_than_a_run_allows_fail(limit, total, status) -> None:
    good = [replace(probe(), place=f"c.jsonl:{n}") for n in range(3)]
    check = corpus_checks.check_rows(good, [Fault("c.jsonl:9", "odd")], "all", limit, total)
    assert check.status == status
    assert ("score.max_bad_rows" in check.advice) == (status == "fail")


def test_keys_that_are_not_read_need_a_persons_eye() -> None:
    check = corpus_checks.check_template({"message key 'wieght' is not read": 2})
    assert check.status == "warn"
    assert "rename" in check.advice
