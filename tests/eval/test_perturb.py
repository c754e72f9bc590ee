import random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from eval.perturb import PERTURBATIONS, is_chinese, perturb

TICKET = """Triage this support ticket.
customer: Anna Berg
product: desk lamp
issue: broken switch
order: TK-1024/b"""
ZH_TICKET = "请处理这个工单，在今天完成。\n客户：王芳\n产品：台灯"

names = st.sampled_from(sorted(PERTURBATIONS))
prompts = st.sampled_from([TICKET, ZH_TICKET]) | st.text(
    alphabet="abcdeXYZ 我在的，。:\n12.!", min_size=1, max_size=80
)


@given(prompts, names, st.integers(0, 99), st.data())
def test_facts_and_digits_survive(text, name, seed, data):
    start = data.draw(st.integers(0, len(text) - 1))
    fact = text[start : data.draw(st.integers(start + 1, len(text)))]
    assume(fact.strip())
    changed = perturb(text, name, str(seed), [fact, "not in the prompt"])
    if changed is not None:
        assert changed != text
        assert fact in changed
        digits = [character for character in text if character in "0123456789"]
        assert [c for c in changed if c in "0123456789"] == digits or name == "field_order"


@given(prompts, names, st.integers(0, 99))
def test_equal_seeds_give_equal_variants(text, name, seed):
    assert perturb(text, name, str(seed)) == perturb(text, name, str(seed))


@pytest.mark.parametrize("name", sorted(PERTURBATIONS))
@pytest.mark.parametrize("text", [TICKET, ZH_TICKET])
def test_every_perturbation_applies_to_tickets(name, text):
    variants = {perturb(text, name, str(seed)) for seed in range(30)}
    assert None not in variants
    assert len(variants) > 1 or text == ZH_TICKET


def test_field_order_moves_whole_lines_and_nothing_else():
    changed = perturb(TICKET, "field_order", "0")
    lines, before = changed.split("\n"), TICKET.split("\n")
    assert sorted(lines) == sorted(before)
    assert lines != before
    assert lines[0] == before[0]


@pytest.mark.parametrize(
    "text", ["no fields here", "only: one", "a: same\na: same", "see http://x.org\nat http://y.org"]
)
def test_field_order_does_not_apply(text):
    assert perturb(text, "field_order", "0") is None


def test_typos_touch_few_letters_of_long_words_only():
    text = "please describe the whole problem with your television " * 5 + "AB-12x shop/index"
    letters = sum(len(word) for word in text.split() if len(word) > 3 and word.isalpha())
    for seed in range(20):
        changed = perturb(text, "typos", str(seed))
        assert len(changed) == len(text)
        places = [i for i, (a, b) in enumerate(zip(text, changed, strict=True)) if a != b]
        assert 0 < len(places) <= 2 * round(0.05 * letters)
        assert changed.endswith("AB-12x shop/index")
        words = zip(text.split(), changed.split(), strict=True)
        assert all(a == b for a, b in words if len(a) < 4)
        firsts = zip(text.split(), changed.split(), strict=True)
        assert all(a[0] == b[0] for a, b in firsts)


def test_typos_spare_every_word_of_a_fact():
    changed = perturb(TICKET, "typos", "1", ["Anna Berg", "desk lamp", "broken switch"])
    assert all(fact in changed for fact in ("Anna Berg", "desk lamp", "broken switch"))


def test_typos_without_longer_words_do_not_apply():
    assert perturb("is it on? 123", "typos", "0") is None
    assert perturb("你好", "typos", "0") is None  # no homophone of the list


def test_paraphrase_turns_an_imperative_into_a_request():
    changed = perturb("Write a poem.", "paraphrase", "0")
    assert changed.endswith(" write a poem.")
    assert perturb("请写一首诗", "paraphrase", "0").endswith("写一首诗")
    assert perturb("What is this?", "paraphrase", "0").endswith("\nWhat is this?")


def test_chinese_punctuation_changes_width_or_end():
    variants = {perturb("你好，世界。", "punctuation", str(seed)) for seed in range(20)}
    assert variants == {"你好,世界.", "你好，世界"}


def test_blank_messages_have_no_variants():
    assert all(perturb(" \n", name, "0") is None for name in ("paraphrase", "padding", "typos"))


def test_language_is_told_by_script():
    assert is_chinese("用 Python 写一个排序函数")
    assert not is_chinese("Translate 你好 into English")


def test_perturbations_do_not_use_the_global_random_state():
    random.seed(1)
    state = random.getstate()
    for name in PERTURBATIONS:
        perturb(TICKET, name, "0")
    assert random.getstate() == state
