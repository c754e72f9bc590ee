import random
import subprocess
import sys
from collections import Counter
from typing import get_args

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from eval.cases.perturbations import PERTURBATIONS, is_chinese, perturb
from eval.cases.perturbations.lexicon import CHINESE, ENGLISH
from eval.cases.perturbations.tables import TYPOS_ZH
from eval.cases.perturbations.text import HAN
from eval.config import Perturbation

TICKET = """Triage this support ticket, please. We spent a lovely weekend by the sea.
customer: Anna Berg
product: desk lamp
issue: broken switch
order: TK-1024/b"""
ZH_TICKET = """请处理这个工单，在今天完成。我上周去爬山，心里很高兴。
客户：王芳
产品：台灯"""
MIXED = "请把这段 Python 代码改写成函数，保持变量 user_id 不变。昨晚天很冷。"

names = st.sampled_from(sorted(PERTURBATIONS))
sentences = st.sampled_from(
    [
        "Write a reply to the customer, briefly. ",
        "Do not mention the refund of 30.50 dollars. ",
        "Which team should handle it? ",
        "We went to the sea last summer. ",
        'Keep "AS IS" and mail a.b@c.org. ',
        "请总结下面的问题，只用三句话。",
        "客户的订单 AB-12 在3天内没有送达。",
        "昨天晚上的月亮很圆。",
        "\nproduct: kettle\npriority: high\n",
        "\n产品：水壶\n城市：上海\n",
    ]
)
prompts = (
    st.sampled_from([TICKET, ZH_TICKET, MIXED])
    | st.lists(sentences, min_size=1, max_size=6).map("".join)
    | st.text(alphabet="abcdeXYZ 我在的，。:\n12.!", min_size=1, max_size=80)
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
        assert sorted(c for c in changed if c in "0123456789") == sorted(digits)


@given(prompts, names, st.integers(0, 99))
def test_variants_keep_to_a_budget_of_characters(text, name, seed):
    changed = perturb(text, name, str(seed))
    if changed is not None:
        assert changed.strip()
        assert len(changed) <= len(text) + 100


@given(prompts, names, st.integers(0, 99))
def test_equal_seeds_give_equal_variants(text, name, seed):
    assert perturb(text, name, str(seed)) == perturb(text, name, str(seed))


def test_variants_are_the_same_in_every_process():
    code = (
        "from eval.cases.perturbations import PERTURBATIONS, perturb\n"
        f"texts = {[TICKET, ZH_TICKET, MIXED]!r}\n"
        "print(ascii([perturb(t, n, 's') for t in texts for n in PERTURBATIONS]))"
    )
    here = [perturb(t, n, "s") for t in (TICKET, ZH_TICKET, MIXED) for n in PERTURBATIONS]
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONHASHSEED": "7"},
    )
    assert done.stdout.strip() == ascii(here)


@pytest.mark.parametrize("name", sorted(PERTURBATIONS))
@pytest.mark.parametrize("text", [TICKET, ZH_TICKET], ids=["en", "zh"])
def test_every_perturbation_applies_to_tickets(name, text):
    variants = {perturb(text, name, str(seed)) for seed in range(30)}
    if name == "letter_case" and text == ZH_TICKET:
        assert variants == {None}  # no letters
    else:
        assert None not in variants


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
    assert perturb("你好", "typos", "0") is None  # no word of the table


def test_chinese_typos_are_those_of_the_table_and_spare_numbers_and_negations():
    text = "请不要在三天内联系客户，只说明原因。" * 4
    misspelt = {word for words in TYPOS_ZH.items() for word in words}
    for seed in range(20):
        changed = perturb(text, "typos", str(seed))
        swapped = [i for i, (a, b) in enumerate(zip(text, changed, strict=True)) if a != b]
        assert 0 < len(swapped) <= 3  # 5 % of 64 characters
        assert all({changed[i : i + 2], changed[i - 1 : i + 1]} & misspelt for i in swapped)
        assert Counter(c for c in changed if c in "不三天只") == Counter("不三天只" * 4)


def test_a_chinese_typo_is_one_character_and_no_number_person_negation_or_relation():
    assert len(TYPOS_ZH) > 250
    for word, typo in TYPOS_ZH.items():
        (change,) = [pair for pair in zip(word, typo, strict=True) if pair[0] != pair[1]]
        assert typo not in TYPOS_ZH
        assert not set(change) & set(
            "零一二三四五六七八九十百千万亿两半几年月日时分秒元天不没无非别未"
            "他她它那哪谁比左右上下前后东南北里外大小高低早晚男女父儿孙夫妻"
        )


def test_paraphrase_turns_an_imperative_into_a_request():
    changed = perturb("Write a poem.", "paraphrase", "0")
    assert changed.endswith(" write a poem.")
    assert perturb("请写一首诗", "paraphrase", "0").endswith("写一首诗")
    assert perturb("What is this?", "paraphrase", "0").endswith("\nWhat is this?")
    assert perturb("请勿动", "paraphrase", "0").endswith("\n请勿动")  # not "麻烦你勿动"


def test_chinese_punctuation_changes_width_or_end():
    variants = {perturb("请写诗，快。", "punctuation", str(seed)) for seed in range(20)}
    assert variants == {"请写诗,快.", "请写诗，快"}


def test_punctuation_leaves_the_values_of_fields_alone():
    for seed in range(20):
        changed = perturb(TICKET, "punctuation", str(seed))
        assert changed.split("\n")[1:] == TICKET.split("\n")[1:]


def test_letter_case_spares_codes_and_quotations():
    text = 'Reply with "OK" to Ana@shop.de about TK-9x, Anna.'
    variants = {perturb(text, "letter_case", str(seed), ["Anna"]) for seed in range(20)}
    assert variants == {
        'reply with "OK" to Ana@shop.de about TK-9x, Anna.',
        'REPLY WITH "OK" TO Ana@shop.de ABOUT TK-9x, Anna.',
    }


def test_letter_case_spares_acronyms_units_and_labels():
    text = "Is the US or the WHO right about 5 mW and iPhones?\nA. yes\nB. no"
    for variant in [perturb(text, "letter_case", str(seed)) for seed in range(20)]:
        kept = ("US", "WHO", "5 mW", "iPhones", "\nA.", "\nB.")
        assert all(part in variant for part in kept)


def test_the_letter_of_an_option_is_not_sought_in_words():
    text = "Which sinks?\nA. a nail\nB. a balloon\nAnswer A or B."
    for variant in [perturb(text, "letter_case", str(s), ["A", "B"]) for s in range(20)]:
        assert variant in (
            "WHICH SINKS?\nA. A NAIL\nB. A BALLOON\nANSWER A OR B.",
            "which sinks?\nA. a nail\nB. a balloon\nanswer A or B.",
        )


def test_every_row_of_the_lexicon_names_a_word():
    for pattern, _ in (*ENGLISH, *CHINESE):
        for text in ("", "问题：谁", "请\n，的", "the a your support "):
            assert all(match[0] for match in pattern.finditer(text))


ASIDE = "We went to the sea last summer. "


def test_only_a_sentence_that_nothing_refers_to_is_dropped():
    asked = "Check these fields.\nproduct: lamp\nissue: smoke"
    assert perturb(ASIDE + asked, "dropped_sentence", "0") is None  # which ones are "these"?
    asked = asked.replace("these", "the")
    assert perturb(ASIDE + asked, "dropped_sentence", "0") == asked
    assert perturb(ASIDE + asked, "dropped_sentence", "0", ["summer"]) is None
    assert perturb(ASIDE + asked + ", after a summer", "dropped_sentence", "0") is None
    chinese = "今天天气很好。请检查工单。\n产品：台灯\n故障：冒烟"
    assert perturb(chinese, "dropped_sentence", "0") == chinese.removeprefix("今天天气很好。")


@pytest.mark.parametrize(
    "text",
    [
        "All birds have wings. Has a bird wings?",
        "A bus leaves the depot empty. How many people are on the bus?",
        "My neighbour annoys me. How do I make peace with him?",
        "Can a fish live long out of water, in dry air?",
        "Write two paragraphs, separated by an empty line, about the seasons.",
        "If the lamp is on, nobody sleeps well. What colour has the sky?",
        "I like tea very much. Blue whales sing songs.",  # nothing is asked
        "小明昨天去了北京。他去了哪里？",
        "请写诗。\n天气：很好啊",
        "Fix the code. The sea was calm.\n```\nx\n```",
    ],
)
def test_what_the_answer_may_need_is_not_dropped(text):
    for name in ("dropped_sentence", "truncated_sentence"):
        assert perturb(text, name, "0") is None


def test_a_dropped_sentence_does_not_pull_the_next_line_up():
    changed = perturb(TICKET, "dropped_sentence", "0")
    assert changed == TICKET.replace("We spent a lovely weekend by the sea.", "")
    assert changed.split("\n")[1:] == TICKET.split("\n")[1:]


def test_a_truncated_sentence_is_cut_in_the_middle():
    changed = perturb(TICKET, "truncated_sentence", "0")
    assert changed == TICKET.replace("lovely weekend by the sea.", "lovely…")


def test_code_switching_translates_the_instruction_and_not_the_data():
    for seed in range(20):
        changed = perturb(TICKET, "code_switching", str(seed), ["switch"])
        assert is_chinese(changed) is False
        assert HAN.search(changed)
        values = [line.partition(": ")[2] for line in TICKET.split("\n")[1:]]
        assert all(value in changed for value in values)
    assert perturb("写邮件", "code_switching", "0") == "写 email"
    assert perturb('Explain this "email"!', "code_switching", "0") == '解释 this "email"!'


def test_blank_messages_have_no_variants():
    assert all(perturb(" \n", name, "0") is None for name in PERTURBATIONS)


def test_language_is_told_by_script():
    assert is_chinese("用 Python 写一个排序函数")
    assert not is_chinese("Translate 你好 into English")


def test_perturbations_do_not_use_the_global_random_state():
    random.seed(1)
    state = random.getstate()
    for name in PERTURBATIONS:
        perturb(TICKET, name, "0")
    assert random.getstate() == state


def test_the_recipe_names_every_perturbation():
    assert get_args(Perturbation) == tuple(PERTURBATIONS)
