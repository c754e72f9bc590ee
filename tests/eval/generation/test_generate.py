"""Prompts, requests and samples; files of samples that survive an interruption."""

import copy
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.config import EvaluateConfig
from eval.generation.generate import (
    Completion,
    Prompt,
    ends_in_a_loop,
    error_sample,
    judge_again,
    make_request,
    make_sample,
    ranked,
    refusal,
    render,
    request_seed,
)
from eval.generation.options import Options
from eval.generation.samples import append_samples, read_samples, resume_samples, samples_path
from eval.schema.case import Case, Checker, Message
from nlirg.chat.encoder import ChatEncoder
from nlirg.errors import InputError
from nlirg.models.chat import stop_ids

CONFIG = EvaluateConfig(max_prompt_tokens=20, max_new_tokens=10)


def case(name: str = "q", suite: str = "domain", text: str = "one two", **more) -> Case:
    return Case(
        id=name,
        messages=(Message(role="user", content=text),),
        reference="four",
        checker=Checker(kind="exact"),
        suite=suite,
        **more,
    )


def prompt(ids=(5, 6, 7), **more) -> Prompt:
    return Prompt(case(**more), "text", tuple(ids))


def test_the_prompt_is_the_prefix_that_training_saw(tiny_tokenizer) -> None:
    (rendered,) = render(ChatEncoder(tiny_tokenizer), [case()])
    turns = [{"role": "user", "content": "one two"}, {"role": "assistant", "content": "four"}]
    trained = ChatEncoder(tiny_tokenizer).encode(turns).samples[0]
    assert trained.input_ids[: len(rendered.ids)] == list(rendered.ids)
    assert set(trained.labels[: len(rendered.ids)]) == {-100}


def test_a_case_the_template_refuses_becomes_an_error(tiny_tokenizer) -> None:
    bad, good = render(ChatEncoder(tiny_tokenizer), [case(text="a<|im_end|>b"), case()])
    assert "special token" in refusal(bad, CONFIG, 64)
    assert refusal(good, CONFIG.model_copy(update={"max_prompt_tokens": 99}), 128) == ""


def test_generation_stops_at_the_token_that_training_ends_on(tiny_tokenizer) -> None:
    end = tiny_tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert stop_ids(ChatEncoder(tiny_tokenizer)) == (end,)


def test_pretrained_models_also_stop_at_the_end_of_turn(tiny_tokenizer) -> None:
    """Their end-of-sequence token is another one than the chat template's end of turn."""
    pretrained = copy.deepcopy(tiny_tokenizer)
    pretrained.eos_token = "<|endoftext|>"
    names = pretrained.convert_ids_to_tokens(stop_ids(ChatEncoder(pretrained)))
    assert set(names) == {"<|endoftext|>", "<|im_end|>"}


@pytest.mark.parametrize(
    ("length", "context", "reason"),
    [
        (0, 64, "the prompt is empty"),
        (20, 64, ""),
        (21, 64, "the prompt has 21 tokens, the limit is 20"),
        (15, 16, ""),
        (16, 16, "the prompt has 16 tokens, the limit is 15"),
    ],
)
def test_refusals(length: int, context: int, reason: str) -> None:
    assert refusal(prompt(range(length)), CONFIG, context) == reason


@given(length=st.integers(1, 20), context=st.integers(2, 64))
def test_every_accepted_request_fits_the_context(length: int, context: int) -> None:
    asked = prompt(range(length))
    if refusal(asked, CONFIG, context) == "":
        request = make_request(asked, CONFIG, context, seed=0)
        assert 1 <= request.max_tokens <= CONFIG.max_new_tokens
        assert len(request.prompt_ids) + request.max_tokens <= context


def test_only_the_template_suite_is_sampled(tiny_tokenizer) -> None:
    suites = ("domain", "robustness", "ood", "template")
    rendered = render(ChatEncoder(tiny_tokenizer), [case(suite=suite) for suite in suites])
    found = [make_request(one, CONFIG, 64, 0).temperature for one in rendered]
    assert found == [0, 0, 0, CONFIG.template_temperature]


def test_seeds_differ_by_case_prompt_and_run_and_nothing_else() -> None:
    seed = request_seed(prompt(name="a#0"), 1)
    assert request_seed(prompt(name="a#0"), 1) == seed
    others = [
        request_seed(prompt(name="a#1"), 1),
        request_seed(prompt(ids=(5, 6)), 1),
        request_seed(prompt(name="a#0"), 2),
    ]
    assert len({seed, *others}) == 4
    assert all(0 <= value < 2**31 for value in [seed, *others])


@given(st.lists(st.lists(st.integers(0, 200)), unique_by=tuple))
def test_different_token_ids_have_different_hashes(prompts: list[list[int]]) -> None:
    assert len({prompt(ids).sha256 for ids in prompts}) == len(prompts)


def test_samples_carry_the_judgement() -> None:
    right = make_sample(prompt(), Completion("four", (1, 2, 3), "stop"))
    wrong = make_sample(prompt(), Completion("five", (1, 2), "length"))
    assert (right.score, right.correct, right.tokens) == (1.0, True, 3)
    assert (wrong.score, wrong.correct, wrong.finish_reason) == (0.0, False, "length")
    assert right.root_id == "q"
    assert right.prompt_sha256 == wrong.prompt_sha256


def test_an_error_never_counts_as_correct() -> None:
    """Not even where the empty answer would be judged right."""
    asked = prompt()
    blank = case().model_copy(update={"checker": Checker(kind="regex", values=("",))})
    sample = error_sample(Prompt(blank, "", asked.ids), "too long")
    assert (sample.score, sample.correct) == (0.0, False)
    assert (sample.finish_reason, sample.error) == ("error", "too long")


SAMPLES = [
    make_sample(prompt(name=f"问题 {i}"), Completion("a\u2028b\n", (1,), "stop")) for i in range(3)
]


def test_samples_come_back_as_they_were(tmp_path) -> None:
    path = samples_path(tmp_path, "domain")
    append_samples(path, SAMPLES[:1])
    append_samples(path, SAMPLES[1:])
    assert read_samples(path) == SAMPLES
    assert resume_samples(path) == SAMPLES


@settings(max_examples=50)
@given(cut=st.integers(0, 2000))
def test_a_torn_last_line_is_dropped_at_any_byte(cut: int, tmp_path_factory) -> None:
    path = tmp_path_factory.mktemp("torn") / "samples_domain.jsonl"
    append_samples(path, SAMPLES)
    content = path.read_bytes()[:cut]
    path.write_bytes(content)
    assert resume_samples(path) == SAMPLES[: content.count(b"\n")]
    append_samples(path, SAMPLES[-1:])
    assert read_samples(path)[-1] == SAMPLES[-1]


def test_nothing_to_resume(tmp_path) -> None:
    assert resume_samples(tmp_path / "samples_domain.jsonl") == []


def test_a_damaged_line_in_the_middle_is_named(tmp_path) -> None:
    path = samples_path(tmp_path, "ood")
    append_samples(path, SAMPLES)
    lines = path.read_text().split("\n")
    path.write_text("\n".join([lines[0], lines[1][:40], lines[2], ""]))
    with pytest.raises(InputError, match=r"samples_ood\.jsonl:2: not a sample"):
        resume_samples(path)
    path.write_text("\n".join([lines[0], "[" * 20_000, ""]))
    with pytest.raises(InputError, match=r"samples_ood\.jsonl:2: not a sample \(nested too deep"):
        read_samples(path)
    with pytest.raises(InputError, match="cannot read"):
        read_samples(tmp_path / "none.jsonl")


def test_the_form_is_judged_beside_the_content() -> None:
    form = Checker(kind="regex", values=(r"^\w+\.$",))
    asked = Prompt(case(format=form), "text", (5,))
    right, wrong = (make_sample(asked, Completion(t, (1,), "stop")) for t in ("four", "five."))
    assert (right.correct, right.format_ok) == (True, False)
    assert (wrong.correct, wrong.format_ok) == (False, True)
    assert make_sample(prompt(), Completion("four", (1,), "stop")).format_ok is None
    assert error_sample(asked, "too long").format_ok is False


def test_an_answer_that_cannot_be_judged_is_an_error_and_not_a_wrong_answer() -> None:
    checker = Checker(kind="python", values=("operator:truth",))  # takes one argument
    asked = Prompt(case().model_copy(update={"checker": checker}), "text", (5,))
    sample = make_sample(asked, Completion("four", (1,), "stop"))
    assert (sample.finish_reason, sample.answer, sample.correct) == ("error", "four", False)
    assert sample.error.startswith("cannot be judged: 'operator:truth' failed: TypeError")


@pytest.mark.parametrize(
    "error", [RecursionError("deep"), TypeError("no\nsuch"), KeyError("\ud83d")]
)
def test_a_checker_that_breaks_on_an_answer_costs_that_answer(monkeypatch, tmp_path, error) -> None:
    def breaks(*_):
        raise error

    monkeypatch.setattr("eval.generation.generate.check", breaks)
    sample = make_sample(prompt(), Completion("four", (1,), "stop"))
    assert (sample.finish_reason, sample.answer, sample.correct) == ("error", "four", False)
    assert sample.error.startswith(f"cannot be judged: {type(error).__name__}: ")
    assert len(sample.error.splitlines()) == 1
    append_samples(samples_path(tmp_path, "domain"), [sample])
    assert read_samples(samples_path(tmp_path, "domain")) == [sample]


def test_it_is_said_whether_the_form_or_the_content_could_not_be_judged() -> None:
    broken = Checker(kind="python", values=("operator:truth",))
    completion = Completion("four", (1,), "stop")
    of_form = make_sample(Prompt(case(format=broken), "text", (5,)), completion)
    assert of_form.error.startswith("cannot be judged: format: 'operator:truth' failed")
    content = case(format=Checker(kind="exact")).model_copy(update={"checker": broken})
    of_content = make_sample(Prompt(content, "text", (5,)), completion)
    assert of_content.error.startswith("cannot be judged: 'operator:truth' failed")


def judged_by(checker: Checker, **more) -> Prompt:
    return Prompt(case(**more).model_copy(update={"checker": checker}), "text", (5, 6, 7))


BROKEN, EXACT = Checker(kind="python", values=("operator:truth",)), Checker(kind="exact")
LOOP = (5,) * 30


@pytest.mark.parametrize("old", [EXACT, BROKEN, Checker(kind="regex", values=("f",))])
@pytest.mark.parametrize(
    "completion",
    [
        Completion("four", (1, 2), "stop"),
        Completion("five", (1, 2), "stop"),
        Completion("four", LOOP, "length"),
    ],
)
def test_judged_again_is_as_judged_at_first(old: Checker, completion: Completion) -> None:
    new = judged_by(EXACT, task_type="sums")
    kept = make_sample(judged_by(old), completion)
    assert judge_again(kept, new, max_tokens=30) == make_sample(new, completion)


def test_how_an_answer_ended_that_could_not_be_judged_may_have_to_be_asked_again() -> None:
    kept = make_sample(judged_by(BROKEN), Completion("four", tuple(range(30)), "length"))
    assert judge_again(kept, judged_by(EXACT), max_tokens=30) is None


def test_what_was_never_answered_is_not_judged_but_asked() -> None:
    refused = error_sample(judged_by(EXACT), "too long")
    anything = judged_by(Checker(kind="regex", values=("",)))
    assert judge_again(refused, anything, max_tokens=0) is None


def ranking(reference: str = "four", options=("four", "five or six"), **more) -> Prompt:
    checker = Checker(kind="choice", values=options, answer_by="likelihood")
    changed = {"checker": checker, "reference": reference}
    ids = tuple(tuple(range(len(text.split()))) for text in options)  # a token a word
    asked = case(**more).model_copy(update=changed)
    return Prompt(asked, "text", (5, 6, 7), options=Options(options, (8,), ids))


def test_options_are_ranked_by_their_log_probability_per_token() -> None:
    """The longer option is less likely as a whole, and likelier per token."""
    sample = make_sample(ranking(), ranked((-2.0, -3.0)))
    assert sample.option_logprobs == {"four": -2.0, "five or six": -1.0}
    assert (sample.answer, sample.correct) == ("five or six", False)
    assert sample.score == pytest.approx(math.exp(-2) / (math.exp(-2) + math.exp(-1)))
    right = make_sample(ranking("five or six"), ranked((-2.0, -3.0)))
    assert (right.correct, right.score) == (True, pytest.approx(1 - sample.score))


def test_a_ranked_answer_is_no_generated_text() -> None:
    sample = make_sample(ranking(), ranked((-2.0, -3.0)))
    assert (sample.finish_reason, sample.tokens, sample.runaway) == ("stop", 0, False)
    assert not sample.generated
    assert make_sample(prompt(), Completion("four", (1,), "stop")).generated


def test_a_ranking_is_asked_for_after_the_lead_and_without_a_temperature() -> None:
    asked = ranking(suite="template")
    request = make_request(asked, CONFIG, 64, seed=0)
    assert (request.prompt_ids, request.options) == ((5, 6, 7, 8), asked.options.ids)
    assert request.temperature == 0


def test_a_log_probability_that_is_none_is_a_broken_engine() -> None:
    for value in (math.nan, -math.inf, math.inf):
        with pytest.raises(FloatingPointError, match="not finite"):
            ranked((-1.0, value))


def test_kept_rankings_are_judged_again_as_far_as_they_tell(tmp_path) -> None:
    answer = ranked((-2.0, -3.0))
    append_samples(samples_path(tmp_path, "domain"), [make_sample(ranking(), answer)])
    (kept,) = read_samples(samples_path(tmp_path, "domain"))
    other_reference = ranking("five or six", task_type="sums")
    assert judge_again(kept, other_reference, 0) == make_sample(other_reference, answer)
    swapped = ranking(options=("five or six", "four"))
    assert judge_again(kept, swapped, 0) == make_sample(swapped, ranked((-3.0, -2.0)))
    assert judge_again(kept, ranking(options=("four", "five or six", "ten")), 0) is None
    assert judge_again(kept, prompt(), 10) is None, "text is asked for now"
    text = make_sample(prompt(), Completion("four", (1,), "stop"))
    assert judge_again(text, ranking(), 10) is None, "a ranking is asked for now"


@pytest.mark.parametrize(
    ("ids", "loops"),
    [
        ([9] * 24, True),
        ([9] * 23, False),  # too short to tell from a list of equal items
        ([1, 2, 3, *[9, 8] * 12], True),
        ([*range(40)] * 3, True),
        ([*range(40)] * 2, False),
        ([*range(40), *range(40), *range(39)], False),
        ([9] * 30 + [1], False),  # found its way out
        ([*range(100)], False),
        ([], False),
    ],
)
def test_loops_are_found_at_the_end_of_an_answer(ids: list[int], loops: bool) -> None:
    assert ends_in_a_loop(ids) is loops


@given(
    block=st.lists(st.integers(0, 50), min_size=1, max_size=30),
    start=st.lists(st.integers(0, 50), max_size=30),
    cut=st.integers(0, 29),
)
def test_a_loop_is_found_wherever_the_limit_cuts_it(block, start, cut) -> None:
    repeats = 4 + 24 // len(block)
    ids = start + block * repeats
    assert ends_in_a_loop(ids[: len(ids) - min(cut, len(block) - 1)])


def test_a_runaway_is_a_loop_that_only_the_limit_ended() -> None:
    loop = (5,) * 30
    assert make_sample(prompt(), Completion("x", loop, "length")).runaway
    assert not make_sample(prompt(), Completion("x", loop, "stop")).runaway
    assert not make_sample(prompt(), Completion("x", tuple(range(30)), "length")).runaway
