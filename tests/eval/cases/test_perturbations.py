import random
import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from eval.cases.perturbations import PERTURBATIONS, known_perturbation, perturb
from eval.cases.perturbations.text import is_chinese

TICKET = """Triage this support ticket, please. We spent a lovely weekend by the sea.
customer: Anna Berg
product: desk lamp
issue: broken switch
order: TK-1024/b"""
ZH_TICKET = """请处理这个工单，说明结果。我上周去爬山，心里很高兴。
客户：王芳
产品：台灯
故障：冒烟"""
MIXED = "请把这段 Python 代码改写成函数，保持变量 user_id 不变。昨晚天很冷。"
TOUCHING_WORDS = ("typos", "punctuation", "letter_case")

names = st.sampled_from(sorted(PERTURBATIONS))
sentences = st.sampled_from(
    [
        "Write a reply to the customer, briefly. ",
        "Do not mention the refund of 30.50 dollars. ",
        "Which team should handle it? ",
        "We went to the sea in summer. ",
        'Keep "AS IS" and mail a.b@c.org. ',
        "请总结下面的问题，只用三句话。",
        "客户的订单 AB-12 在3天内没有送达。",
        "昨天晚上的月亮很圆。",
        "\nproduct: kettle\npriority: high\ncity: Rome\n",
        "\n产品：水壶\n城市：上海\n颜色：红\n",
    ]
)
prompts = (
    st.sampled_from([TICKET, ZH_TICKET, MIXED])
    | st.lists(sentences, min_size=1, max_size=6).map("".join)
    | st.text(alphabet="abcdeXYZ 我在的，。:\n12.!", min_size=1, max_size=80)
)


def perturbed(text: str, name: str, facts: tuple[str, ...] = ()) -> set[str]:
    """All that 25 seeds make of a text."""
    made = (perturb(text, name, str(seed), facts) for seed in range(25))
    return {result for result in made if result is not None}


@given(prompts, names, st.integers(0, 99), st.data())
def test_facts_digits_and_the_seed_decide(text, name, seed, data):
    start = data.draw(st.integers(0, len(text) - 1))
    fact = text[start : data.draw(st.integers(start + 1, len(text)))]
    assume(fact.strip())
    changed = perturb(text, name, str(seed), [fact, "not in the prompt"])
    assert changed == perturb(text, name, str(seed), [fact, "not in the prompt"])
    if changed is not None:
        assert changed != text
        assert changed.strip()
        assert fact in changed
        assert Counter(filter(str.isdigit, changed)) == Counter(filter(str.isdigit, text))
        assert len(changed) <= len(text) + 100


def test_perturbations_are_the_same_in_every_process_and_leave_the_global_random_state():
    state = random.getstate()
    here = [perturb(t, n, "s") for t in (TICKET, ZH_TICKET, MIXED) for n in PERTURBATIONS]
    assert random.getstate() == state
    code = (
        "from eval.cases.perturbations import PERTURBATIONS, perturb\n"
        f"texts = {[TICKET, ZH_TICKET, MIXED]!r}\n"
        "print(ascii([perturb(t, n, 's') for t in texts for n in PERTURBATIONS]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONHASHSEED": "7"},
    )
    assert done.stdout.strip() == ascii(here)


@pytest.mark.parametrize("name", sorted(PERTURBATIONS))
def test_every_perturbation_applies_to_tickets_and_to_no_blank_message(name):
    assert perturb(" \n", name, "0") is None
    assert perturbed(TICKET, name)
    assert bool(perturbed(ZH_TICKET, name)) == (name != "letter_case")  # no letters


def test_an_unknown_name_is_refused_with_the_nearest():
    assert known_perturbation("typos") == "typos"
    with pytest.raises(ValueError, match=r"did you mean typos\?"):
        known_perturbation("typo")
    with pytest.raises(ValueError, match=r"'code_switching' is no perturbation.*padding"):
        known_perturbation("code_switching")


@pytest.mark.parametrize(
    "kept",
    [
        "max(x, y)",
        '"Lets eat, grandma."',
        "“Lets eat, grandma.”",
        "```\nif a, and b:\n    check the message\n```",
        '{"user": {"list": [1, null], "text": true}, "message": null}',
        "| product | Price |\n|---|---|\n| Lamp, and bulb | low |",
        "SELECT Price, message FROM Customer WHERE Team IS NULL",
        "<a title=Message>",
        "total = price, and = message",
        "description: Lets eat, grandma.",
        "B. Lets eat, grandma.",
    ],
)
def test_code_quotations_fields_and_options_stay_as_they_are(kept):
    for text in (f"Explain this to the customer.\n{kept}", f"{kept}\nPlease explain it."):
        for name in TOUCHING_WORDS:
            assert all(kept in changed for changed in perturbed(text, name))


def test_text_beside_code_without_a_fence_is_not_touched_and_beside_a_fence_it_is():
    assert not any(perturbed("Explain the program.\nx = f(y)", name) for name in TOUCHING_WORDS)
    assert all(perturbed("Explain it, please.\n```\nx = 1\n```", name) for name in TOUCHING_WORDS)


@pytest.mark.parametrize("name", sorted(set(PERTURBATIONS) - {"field_order"}))
def test_messages_about_wording_are_left_alone(name):
    for text in (
        "How many words are in: the customer paid?",
        "How many times does the letter r occur in strawberry?",
        "Correct the spelling: I recieved the parcel, and left.",
        "Repeat exactly: please check the customer",
        "What language is this message written in?",
        "Answer 'pong' if my message contains 'please', otherwise 'ping'.",
        "Give me the acronym of: please read every customer note, slowly",
        "Encode in base64: the customer report",
        "下面的句子有几个错别字？用户回答问题。",
        "请原样重复：客户回答问题。",
        "这句话有多少个字？",
        "请把下面的内容原封不动地输出：客户回答问题。",
        "下面哪个词写错了：应该 因该",
    ):
        assert perturbed(text, name) == set()


def test_field_order_moves_whole_lines_and_nothing_else():
    for changed in perturbed(TICKET, "field_order"):
        lines, before = changed.split("\n"), TICKET.split("\n")
        assert sorted(lines) == sorted(before)
        assert lines != before
        assert lines[0] == before[0]


RECORD = "product: lamp\nissue: smoke\nregion: north"


@pytest.mark.parametrize(
    "text",
    [
        "no fields here",
        "only: one\nand: two",
        "a: same\na: same\na: same",
        "http://x.org\nhttp://y.org\nhttp://z.org",
        "A: red\nB: blue\nC: green\n\nWhich is the colour of blood?",
        "Alice: The dog is ill.\nBob: I am sorry.\nCarl: So am I.\n\nHow does Bob react?",
        "小王：你吃了吗？\n小李：吃了。\n小张：我也是。",
        "if x: print(1)\nelif y: print(2)\nelse: print(3)",
        f"```\n{RECORD}\n```",
        f"{RECORD}\n  colour: red",  # belongs to the region
        f"{RECORD}\nand in the east",
        f"{RECORD}\n\nWhich line comes first?",
        f"{RECORD}\n\nName them in this order.",
        f"{RECORD}\nlast contact: Anna",
        "早餐：鸡蛋\n午餐：面条\n晚餐：米饭\n\n首先吃什么？",
        "苹果：三元\n香梨：五元\n葡萄：六元\n\n它们分别多少钱？",
    ],
)
def test_the_order_of_lines_stays_where_it_may_matter(text):
    assert perturbed(RECORD, "field_order")
    assert perturbed(text, "field_order") == set()


def test_keyboard_typos_add_a_neighbouring_key_to_few_long_small_words():
    text = (
        "please describe the whole problem with your television, Marian. Repair AB-12x shop/index"
    )
    neighbours = {
        "qw",
        "we",
        "er",
        "rt",
        "ty",
        "yu",
        "ui",
        "io",
        "op",
        "as",
        "sd",
        "df",
        "fg",
        "gh",
    }
    neighbours |= {"hj", "jk", "kl", "zx", "xc", "cv", "vb", "bn", "nm"}
    for changed in perturbed(text, "typos"):
        pairs = list(zip(text.split(), changed.split(), strict=True))
        slips = [(word, slip) for word, slip in pairs if word != slip]
        assert 1 <= len(slips) <= 2  # 5 % of the letters of five words
        for word, slip in slips:
            at = [i for i in range(len(slip)) if slip[:i] + slip[i + 1 :] == word]
            pairs_hit = {"".join(sorted(slip[i - 1 : i + 1])) for i in at}
            assert pairs_hit & {"".join(sorted(pair)) for pair in neighbours}
            assert len(word.strip(",.")) >= 5
            assert word.islower()


def test_typos_spare_facts_numbers_negations_and_what_is_said_twice():
    text = "Never repair seventy kettles; repair Anna's kettle without the blanket."
    for changed in perturbed(text, "typos", ("blanket",)):
        assert all(word in changed for word in ("Never", "seventy", "without", "blanket", "Anna"))
        assert changed.count("repair") == 2
    assert perturbed("is it on? 123", "typos") == set()


def test_chinese_typos_have_the_sound_of_what_was_meant():
    from pypinyin import lazy_pinyin

    text = "请回答，数字的结果说明什么？天气、汽车和学校，请选择。三天内不要联系她们，只吃苹果。"
    seen = perturbed(text, "typos")
    assert len(seen) > 10
    for changed in seen:
        swapped = [(a, b) for a, b in zip(text, changed, strict=True) if a != b]
        assert 1 <= len(swapped) <= 2  # 5 % of the characters of a dozen words
        assert all(lazy_pinyin(a) == lazy_pinyin(b) for a, b in swapped)
        assert not {b for _, b in swapped} & set("十是事只") & set("一二三十她他它不没")
        assert Counter(c for c in changed if c in "不三她只") == Counter("不三她只")


def test_chinese_names_and_persons_are_no_words_to_mistype():
    for text in ("小明比小红高。", "她们借给他们钱。", "李明和王芳。", "小明在哪里？"):
        changed = perturbed(text, "typos")
        assert all("小明" in c or "小明" not in text for c in changed)
        assert all(name in c for c in changed for name in ("她们", "他们", "王芳") if name in text)


def test_letter_case_spares_facts_codes_quotations_acronyms_units_and_labels():
    text = 'Reply with "OK" to Ana@shop.de about TK-9x, Anna.'
    assert perturbed(text, "letter_case", ("Anna",)) == {
        'reply with "OK" to Ana@shop.de about TK-9x, Anna.',
        'REPLY WITH "OK" TO Ana@shop.de ABOUT TK-9x, Anna.',
    }
    text = "Is the US or the WHO right about 5 mW, 2 kg and iPhones?\nA. yes\nB. no"
    for changed in perturbed(text, "letter_case"):
        kept = ("US", "WHO", "5 mW", "2 kg", "iPhones", "\nA. yes", "\nB. no")
        assert all(part in changed for part in kept)


def test_punctuation_changes_the_ends_of_lines_only():
    ends = {"", "..", " ."}
    assert perturbed("Read it, then wait. Answer it.", "punctuation") == {
        f"Read it, then wait. Answer it{end}" for end in ends
    }
    assert perturbed("Is it on?", "punctuation") == {"Is it on??", "Is it on ?"}
    for text in ("The capital of France is", "Q: How many legs has a cat?\nA:", "Is it 3.5."):
        assert perturbed(text, "punctuation") == set()
    for changed in perturbed(TICKET, "punctuation"):
        assert changed.split("\n")[1:] == TICKET.split("\n")[1:]


def test_chinese_punctuation_changes_width_or_end_and_a_question_stays_one():
    assert perturbed("请写诗，快。", "punctuation") == {
        "请写诗,快.",
        "请写诗，快",
        "请写诗，快。。",
        "请写诗，快.",
    }
    assert all("？" in c or "?" in c for c in perturbed("你的包裹到了？", "punctuation"))


@pytest.mark.parametrize("name", ["paraphrase", "padding"])
def test_frames_and_padding_stand_before_the_whole_message(name):
    for text in (
        TICKET,
        ZH_TICKET,
        "Continue: once upon a time",
        "Translate: how are you?",
        "续写：从前",
    ):
        changed = perturbed(text, name)
        assert len(changed) > 2
        for c in changed:
            assert c.endswith("\n\n" + text)
            assert is_chinese(c.removesuffix(text)) == is_chinese(text)


def test_frames_and_padding_are_no_courtesies():
    for name in ("paraphrase", "padding"):
        for text in ("Is the sender polite?\nthe lamp broke", "客户有没有表示感谢？"):
            for changed in perturbed(text, name):
                added = changed.removesuffix(text).lower()
                assert not any(
                    w in added for w in ("please", "thank", "hello", "sorry", "请", "谢")
                )


def test_language_is_read_from_the_script():
    assert is_chinese("用 Python 写一个排序函数")
    assert not is_chinese("Translate 你好 into English")
