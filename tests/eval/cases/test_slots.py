import pytest

from eval.cases.perturbations.slots import case_facts, slot_fault
from eval.schema.case import Case, Checker, Instruction, Message

ORDER = "Which team repairs Anna's kettle, order TK-1024, within 3 days? Do not guess."


@pytest.mark.parametrize(
    ("perturbed", "facts", "fault"),
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
        (ORDER.replace("Do not guess.", "Guess."), [], "negation lost"),
        (ORDER, ["", " ", "nowhere"], ""),
    ],
)
def test_faults(perturbed, facts, fault):
    assert slot_fault(ORDER, perturbed, facts) == fault


@pytest.mark.parametrize(
    ("original", "perturbed", "fault"),
    [
        ("Explain:\n```\nx\n```", "What is\n```\nx\n```", ""),
        ("Explain:\n```\nx + y\n```", "What is\n```\ny + x\n```", "code lost"),
        ("Explain `x`.", "Explain x, please.", ""),
        ("Explain `xy`.", "Explain it.", "code lost"),
        ("Write to a@b.org", "Write to a at b.org", "code lost"),
        ('Answer "as is".', "Say “as is”.", ""),
        ("Answer “as is”.", "Answer as it is.", "quotation lost"),
        ("Sum up.\nissue: it smokes", "it smokes: sum that up", ""),
        ("Sum up.\nissue: it smokes", "Sum up.\nissue: smoke", "field lost"),
        ("处理。\n故障：冒烟", "请处理故障", "field lost"),
        ("Which?\nA. a nail\nB. a cork", "Choose.\n(A) a nail\n(B) a cork", ""),
        ("Which?\nA. a nail\nB. a cork", "Choose.\nA. nails\nB. a cork", "option lost"),
    ],
)
def test_code_quotations_values_and_options_survive_word_for_word(original, perturbed, fault):
    assert slot_fault(original, perturbed, []) == fault


def test_a_fact_may_change_case_only_where_the_prompt_writes_it_otherwise_too():
    assert slot_fault("Ask anna.", "ask ANNA", ["Anna"]) == ""
    assert slot_fault("Ask Anna.", "ask ANNA", ["Anna"])


def test_width_and_order_of_numbers_do_not_matter():
    assert slot_fault("共１２件，3.5元", "3.5 元的有 12 件", []) == ""
    assert slot_fault("三天内送达五件", "三天内送达", [])
    assert slot_fault("two of three", "two of them", [])


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
