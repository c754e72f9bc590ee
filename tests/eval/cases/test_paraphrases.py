import pytest

from eval.cases.paraphrases import keep_paraphrases, paraphrase_prompts, paraphrase_requests
from eval.generation.generate import Completion, EngineSpec, request_seed
from eval.generation.transformers_engine import TransformersEngine
from eval.schema.case import Case, Checker, Message
from nlirg.chat.encoder import ChatEncoder

TEXT = "Which team repairs Anna's kettle, order TK-1024, in 3 days?\nproduct: kettle pro"
GOOD = "Who (which team) mends the kettle of Anna, order TK-1024, in 3 days?\nproduct: kettle pro"


def case(name: str = "a", text: str = TEXT, root: str = "") -> Case:
    return Case(
        id=name,
        root_id=root or name,
        task_type="triage",
        messages=(Message(role="system", content="Be short."), Message(role="user", content=text)),
        checker=Checker(kind="slots", values=("Anna", "plumbing")),
        reference="plumbing, Anna",
    )


def done(text: str, reason: str = "stop") -> Completion:
    return Completion(text, (1,), reason)


def kept(*texts: str | Completion, n: int = 1, **changes: str):
    completions = {
        ("robustness", f"a~model_paraphrase{i}"): done(text) if isinstance(text, str) else text
        for i, text in enumerate(texts)
    }
    return keep_paraphrases([case(**changes)], n, completions)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("", "empty"),
        (TEXT.upper(), "unchanged"),
        ("TK-1024, 3", "too short"),
        (GOOD + " Thank you." * 10, "too long"),
        (done(GOOD, "length"), "not finished"),
        (done("", "error"), "not finished"),
        (GOOD.replace("Anna", "her"), "fact lost"),
        (GOOD.replace("kettle pro", "kettle"), "field lost"),
        (GOOD.replace("3 days", "4 days"), "number changed"),
        (GOOD.replace("TK-1024", "TK 1024"), "code lost"),
        (GOOD.replace("product", "The plumbing team.\nproduct"), "answer given away"),
    ],
)
def test_faulty_paraphrases_are_dropped_and_counted(answer, reason):
    found = kept(answer)
    assert found.cases == []
    assert found.dropped == {reason: 1, "not asked": 1}
    assert found.asked == 2


def test_a_kept_paraphrase_is_a_robustness_case_of_the_same_question():
    (made,) = kept(f"\n-----\n{GOOD}\n-----\n", root="r").cases
    assert made.messages[-1].content == GOOD
    assert made.messages[0].content == "Be short."
    assert (made.id, made.root_id) == ("a~model_paraphrase0", "r")
    assert (made.suite, made.perturbation) == ("robustness", "model_paraphrase")
    assert (made.checker, made.task_type) == (case().checker, "triage")


def test_no_more_than_asked_for_are_kept_and_none_twice():
    other = GOOD.replace("mends", "looks after")
    found = kept(GOOD, GOOD.upper().replace("ANNA", "Anna"), other, GOOD + " Now.", n=2)
    assert [c.messages[-1].content for c in found.cases] == [GOOD, other]
    assert found.dropped == {"repeated": 1, "not needed": 1}


def test_every_paraphrase_of_every_case_is_asked_for_with_a_seed_of_its_own(tiny_tokenizer):
    prompts = paraphrase_prompts(
        ChatEncoder(tiny_tokenizer), [case("a"), case("b", "请写一首诗。")], 2
    )
    assert [p.key for p in prompts] == [
        ("robustness", f"{name}~model_paraphrase{i}") for name in "ab" for i in range(4)
    ]
    assert TEXT in prompts[0].text
    assert "Be short." not in prompts[0].text  # it is not to be obeyed here
    assert "换一种说法" in prompts[4].text
    requests = paraphrase_requests(prompts, 4096, seed=0)
    assert len({request.seed for request in requests}) == 8
    assert all(request.temperature > 0 for request in requests)
    assert [r.seed for r in requests] == [request_seed(p, 0) for p in prompts]


def test_a_prompt_without_room_for_an_answer_is_not_asked(tiny_tokenizer):
    prompts = paraphrase_prompts(ChatEncoder(tiny_tokenizer), [case()], 1)
    length = len(prompts[0].ids)
    assert paraphrase_requests(prompts, length, seed=0) == []
    assert [r.max_tokens for r in paraphrase_requests(prompts, length + 5, seed=0)] == [5, 5]


def test_an_engine_answers_the_same_every_time(tiny_tokenizer, tiny_model_dir):
    prompts = paraphrase_prompts(ChatEncoder(tiny_tokenizer), [case("a", "one two")], 1)
    context = len(prompts[0].ids) + 8
    requests = paraphrase_requests(prompts, context, seed=0)
    spec = EngineSpec(str(tiny_model_dir), str(tiny_model_dir), "cpu", context, (2,))
    first, again = (TransformersEngine(spec).generate(requests, None) for _ in range(2))
    assert first == again
    assert first[0].token_ids != first[1].token_ids
    answers = dict(zip((request.key for request in requests), first, strict=True))
    found = keep_paraphrases([case("a", "one two")], 1, answers)
    assert len(found.cases) + sum(found.dropped.values()) == found.asked
