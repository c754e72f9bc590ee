import pytest

from eval.cases.perturbations import case_facts, slots_survive
from eval.schema.case import Case, Checker, Instruction, Message

ORDER = "Which team repairs Anna's kettle, order TK-1024, within 3 days? Do not guess."


@pytest.mark.parametrize(
    ("variant", "facts", "reason"),
    [
        ("For order TK-1024 (Anna's kettle): which team, in 3 days? Do not guess.", ["Anna"], ""),
        ("Who repairs the kettle of TK-1024 in 3 days? Do not guess.", ["Anna"], "fact lost"),
        (ORDER + " Plumbing, I think.", ["plumbing"], "answer given away"),
        (ORDER + " Plumbings, I think.", ["plumbing"], ""),
        (ORDER.replace("3 days", "4 days"), [], "number changed"),
        (ORDER.replace("3 days", "days"), [], "number changed"),
        (ORDER + " 7", [], "number changed"),
        (ORDER.replace("TK-1024", "1024"), [], "code lost"),
        (ORDER.replace("TK-1024", "tk-1024"), [], "code lost"),
        (ORDER.replace("Do not guess.", "Guess."), [], "negation"),
        (ORDER, ["", " ", "nowhere"], ""),
    ],
)
def test_reasons(variant, facts, reason):
    survival = slots_survive(ORDER, variant, facts)
    assert survival.reason == reason
    assert survival.kept == (not reason)


def test_a_fact_may_change_case_only_where_the_prompt_writes_it_otherwise_too():
    assert slots_survive("Ask anna.", "ask ANNA", ["Anna"]).kept
    assert not slots_survive("Ask Anna.", "ask ANNA", ["Anna"]).kept


def test_width_and_order_of_numbers_do_not_matter():
    assert slots_survive("共１２件，3.5元", "3.5 元的有 12 件", []).kept
    assert not slots_survive("三天内送达五件", "三天内送达", []).kept
    assert not slots_survive("two of three", "two of them", []).kept


def test_the_text_at_fault_is_told():
    assert slots_survive("a 17 b", "a b", []).detail == "17"
    assert slots_survive("ask Anna", "ask her", ["Anna"]).detail == "Anna"


def case(checker: Checker, reference: str = "", prompt: str = "") -> Case:
    return Case(
        id="a",
        messages=(Message(role="user", content=prompt),),
        checker=checker,
        reference=reference,
    )


def test_facts_are_the_values_and_the_reference():
    assert case_facts(case(Checker(kind="slots", values=("x", "y")), "x y")) == ("x", "y", "x y")
    assert case_facts(case(Checker(kind="regex", values=("a+",)), "aa")) == ("aa",)


def test_facts_of_a_reference_are_what_it_takes_from_the_prompt():
    made = case(
        Checker(kind="f1"),
        "Your kettle will be picked up in Rome. 水壶已登记。",
        "Where is the Kettle, please? It is in Rome or with your aunt. 水壶坏了。",
    )
    assert case_facts(made)[1:] == ("kettle", "rome", "水壶")


def test_words_that_an_instruction_asks_for_are_facts():
    form = Checker(
        kind="instructions", instructions=(Instruction(kind="include", values=("tea",)),)
    )
    made = case(Checker(kind="exact", values=("x",))).model_copy(update={"format": form})
    assert case_facts(made) == ("x", "tea", "")
