import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.checkers.instructions import kept
from eval.schema.case import Instruction
from nlirg.errors import InputError


def keeps(answer: str, kind: str, *values: str, min=None, max=None) -> bool:
    return kept(Instruction(kind=kind, values=values, min=min, max=max), answer)


COUNTED = [
    ("words", "Don't pay 3,500.50 for well-known art.", 6),
    ("words", "我爱 Python 编程。", 5),
    ("words", "one,two", 2),
    ("characters", "a b\nc。", 4),
    ("sentences", "Prof. Lee left.", 1),
    ("sentences", "Dr. Smith paid 3.5 dollars. Why? No idea!", 3),
    ("sentences", "他来了。“你好！”他说……走了", 2),
    ("sentences", "他说：“好！”就走了。", 1),
    ("sentences", "他说：“好！”妈妈笑了。", 2),
    ("sentences", "他说：“好！！”就走了。他笑了。", 2),
    ("sentences", "他问：“吃了吗？”我说：“吃了。”", 2),
    ("sentences", "It opens at 5p.m. on Monday.", 1),
    ("sentences", "“你好！”我们都知道这句话。", 2),
    ("sentences", '"Stop!" he said. "Why?" She ran.', 3),
    ("sentences", "The shop opens at 5 p.m. on Monday.", 1),
    ("sentences", "It opens at 5 p.m. Monday at St. Mary's.", 2),  # as pysbd says
    ("sentences", "It opens at 5 p.m. The door is red.", 2),
    ("sentences", "Pears, plums etc. are fruit. Buy some etc. Eat them.", 3),
    ("sentences", "I like plan B. It works.", 1),  # B. is an initial, as pysbd says too
    ("sentences", "George W. Bush met J. Smith in the U.S. Senate.", 1),
    ("sentences", "we sell a. we sell b. done", 3),
    ("sentences", "1. Boil water.\n2. Add tea.", 2),
    ("sentences", "no stop at the end", 1),
    ("paragraphs", "a\nb\n\n \nc", 2),
    ("lines", "a\n\nb\n", 2),
    ("bullets", "- a\n* b\n• c\n-d\n- ", 3),
    ("numbered", "Steps:\n1. a\n2) b\n3、c", 3),
    ("numbered", "1. a\n3. b", 0),
    ("numbered", "1.5 metres", 0),
    ("placeholders", "Dear [name], on [date] []", 2),
    ("highlights", "*a* and **b c** but 2*3*4", 2),
    ("highlights", "先*热锅*，再放*油*。", 2),
    ("capital_words", "NASA and I GO on, OK", 3),
    ("parts", "a\n******\nb", 2),
    ("parts", "same******same", 0),
    ("parts", "a******", 0),
]


@pytest.mark.parametrize(("kind", "answer", "count"), COUNTED)
def test_counts(kind, answer, count):
    assert keeps(answer, kind, min=count, max=count)
    assert not keeps(answer, kind, min=count + 1)
    assert keeps(answer, kind, max=count)
    assert not count or not keeps(answer, kind, max=count - 1)


@pytest.mark.parametrize(
    ("kind", "values", "good", "bad"),
    [
        ("include", ("window", "rain"), "Rain on the Window.", "rain on windows"),
        ("include_any", ("eleven", "11"), "It was 11.", "It was 111."),
        ("exclude", ("cat", "狗"), "A caterpillar.", "一只小狗"),
        ("starts_with", ("In my opinion",), " In my opinion, yes.", "In short, no."),
        ("ends_with", ("祝好！", "Bye."), "写完了，祝好!", "祝好！再见"),
        ("repeats", ("Name a bird.",), "Name a  bird. An owl.", "Name a bird."),
        ("title", (), "<<A Night>>\ntext", "<A Night> << >>"),
        ("quoted", (), "“你好”", '"Hello," he said.'),
        ("quoted", (), '"Hello."', '"'),
        ("quoted", (), "“他说“好”，走了”", '"A" and "B"'),
        ("quoted", (), "「甲『乙』」", "“A” and “B”"),
        ("uppercase", (), "STOP 3!", "STOP Now"),
        ("lowercase", (), "stop 3!", "3!"),
        ("no_commas", (), "a; b. 好。", "一、二"),
        ("no_commas", (), "a b", "好，走"),
        ("json", (), '```json\n{"a": 1}\n```', 'Here: {"a": 1}'),
        ("json", (), ' {"a": 1}　', '{"a"：1，"b": 2}'),
        ("title", (), "<<桥>>", "＜＜桥＞＞"),
        ("include", ("don't",), "I don’t.", "I do."),
        ("language", ("zh",), "我用 Python 写程序 3 次。", "I write 程序"),
        ("language", ("zh",), "图书馆", "これは図書館です"),
        ("language", ("en",), "It says 好 once in ten words or more here.", "这是英文 ok"),
    ],
)
def test_kept_and_broken(kind, values, good, bad):
    assert keeps(good, kind, *values)
    assert not keeps(bad, kind, *values)


def test_occurrences_bound_every_value():
    assert keeps("The moon, a Moon; one sun, moons", "occurrences", "moon", min=2, max=2)
    assert not keeps("moon moon sun", "occurrences", "moon", "sun", min=2)


@pytest.mark.parametrize("answer", ["", " \n　"])
def test_an_empty_answer_keeps_nothing(answer):
    for kind, values in [("exclude", ("x",)), ("no_commas", ()), ("lowercase", ())]:
        assert not keeps(answer, kind, *values)
    assert not keeps(answer, "words", max=5)


@pytest.mark.parametrize(
    ("kind", "values", "bounds", "message"),
    [
        ("words", (), {}, "give min, max or both"),
        ("words", (), {"min": 5, "max": 3}, "min 5 is above max 3"),
        ("include", (), {}, "give values"),
        ("include", ("a", " "), {}, "a value is empty"),
        ("uppercase", ("A",), {}, "takes no values"),
        ("title", (), {"max": 1}, "counts nothing"),
        ("language", ("fr",), {}, "'fr' is unknown; there are zh, en"),
        ("repeats", ("a", "b"), {}, "takes one value"),
    ],
)
def test_what_cannot_be_kept_is_refused(kind, values, bounds, message):
    with pytest.raises(InputError, match=message):
        keeps("anything", kind, *values, **bounds)


@given(st.text(), st.integers(0, 50))
def test_a_lower_bound_and_the_bound_below_it_exclude_each_other(answer, bound):
    for kind in ("words", "characters", "sentences", "paragraphs", "lines", "bullets"):
        above, below = keeps(answer, kind, min=bound + 1), keeps(answer, kind, max=bound)
        assert above + below == bool(answer.strip())
