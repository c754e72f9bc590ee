"""Options ranked by likelihood: the choice, how likely the right one is, what is refused."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.checkers.likelihood import rank, validate_ranking
from eval.schema.case import Case, Checker, Message
from nlirg.errors import InputError

LOGPROBS = st.lists(st.floats(-500, 0), min_size=2, max_size=8).map(
    lambda values: {f"o{i}": value for i, value in enumerate(values)}
)


def test_the_score_is_the_share_of_the_right_option_in_all_weights() -> None:
    logprobs = {name: math.log(p) for name, p in {"A": 0.1, "B": 0.3, "C": 0.2}.items()}
    right, wrong = rank(logprobs, "B"), rank(logprobs, " C ")
    assert (right.answer, right.correct, right.score) == ("B", True, pytest.approx(0.5))
    assert (wrong.answer, wrong.correct, wrong.score) == ("B", False, pytest.approx(1 / 3))


@given(LOGPROBS, st.floats(-200, 200))
def test_scores_are_probabilities_that_only_differences_decide(logprobs, shift) -> None:
    rankings = {name: rank(logprobs, name) for name in logprobs}
    assert math.fsum(ranking.score for ranking in rankings.values()) == pytest.approx(1)
    assert [name for name, ranking in rankings.items() if ranking.correct] == [
        max(logprobs, key=logprobs.__getitem__)
    ]
    best = rankings[rank(logprobs, "o0").answer]
    assert best.score == max(ranking.score for ranking in rankings.values())
    shifted = {name: value + shift for name, value in logprobs.items()}
    assert rank(shifted, "o1").score == pytest.approx(rankings["o1"].score, abs=1e-9)


def test_options_far_apart_neither_overflow_nor_vanish() -> None:
    assert rank({"a": -1e4, "b": 0.0}, "b").score == 1
    assert rank({"a": -1e4, "b": 0.0}, "a").score == 0


def case(format: Checker | None = None, reference: str = "yes", **checker) -> Case:
    settings = {"kind": "choice", "values": ("yes", "no"), "answer_by": "likelihood", **checker}
    message = Message(role="user", content="Is it?")
    checked = Checker.model_validate(settings)
    return Case(id="q", messages=(message,), reference=reference, checker=checked, format=format)


def test_what_cannot_be_ranked_is_refused_with_what_to_change() -> None:
    validate_ranking(case(), "f:1")
    validate_ranking(case(kind="exact", answer_by="text", threshold=0.5), "f:1")
    ranked = Checker(kind="choice", values=("a", "b"), answer_by="likelihood")
    refused = [
        (case(kind="exact"), "ranks options, which kind 'exact' has not; use kind 'choice'"),
        (case(values=("yes",)), "two or more different options"),
        (case(values=()), "two or more different options"),
        (case(values=("yes", "no", " yes ")), "two or more different options"),
        (case(values=("yes", " ")), "two or more different options"),
        (case(reference="perhaps"), "the reference 'perhaps' is not one of the options"),
        (case(threshold=0.5), "remove threshold"),
        (case(format=Checker(kind="json")), "remove format"),
        (case(answer_by="text", format=ranked), "format: answer_by belongs to the checker"),
    ]
    for asked, why in refused:
        with pytest.raises(InputError, match=f"^f:1: .*{why}") as error:
            validate_ranking(asked, "f:1")
        assert len(str(error.value).splitlines()) == 1
