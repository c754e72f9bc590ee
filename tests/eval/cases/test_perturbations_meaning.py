"""Wordings that once changed a question's answer, and more of their kind."""

import pytest

from eval.cases.perturbations import PERTURBATIONS, perturb

SEEDS = [str(seed) for seed in range(25)]


def variants(text: str, name: str, facts: tuple[str, ...] = ()) -> set[str]:
    """All that a perturbation makes of a text."""
    made = (perturb(text, name, seed, facts) for seed in SEEDS)
    return {variant for variant in made if variant is not None}


@pytest.mark.parametrize("name", ["dropped_sentence", "truncated_sentence"])
@pytest.mark.parametrize(
    "text",
    [
        "The kettle leaks water onto the plug. Is this urgent? Answer yes or no.",
        "客户的设备开机冒烟。是否立即断电？",
        "她借给他钱。谁是债主？",
        "Respond in French. How is the weather today?",
        "Assume friction is absent. A ball rolls at 3 m/s. How fast is it after a minute?",
        "Reply to the customer. Mention the price, the date and the place.",
        "Suppose nobody came. Was the hall empty?",
        "It rained all night. The ground was dry yesterday. Is the ground wet now?",
        "We are on holiday in Rome. Which country is that in?",
        "I had a great weekend in Rome. Rome is a city. Which city was I in?",
        "今天天气很好。小明没带伞。小明会淋湿吗？",
        "没人在家。快递放在门口。快递会丢吗？",
        "忽略价格。哪款手机更轻？",
        "Translate into German.\nHello! The sea is calm.",
        "把下面的话翻译成英语。\n你好！海很平静。",
        "Thanks a lot for nothing. Is the customer satisfied?",
        "Alice: Hello!\nBob: Good morning.\nWho greets first?",
        "Hello! Thank you. Have a nice day.",
    ],
)
def test_what_a_question_rests_on_stays(text, name):
    assert variants(text, name) == set()


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (
            "Hello! My kettle leaks. Is this urgent? Answer yes or no.",
            "My kettle leaks. Is this urgent? Answer yes or no.",
        ),
        ("What is 7 + 5? Thanks in advance.", "What is 7 + 5?"),
        ("你好！客户的设备开机冒烟。是否立即断电？", "客户的设备开机冒烟。是否立即断电？"),
        ("9 + 8 等于多少？谢谢！", "9 + 8 等于多少？"),
        (
            "We had a lovely weekend at the beach. Triage the ticket.\nproduct: lamp\nissue: smoke",
            "Triage the ticket.\nproduct: lamp\nissue: smoke",
        ),
    ],
)
def test_courtesies_and_small_talk_go(text, left):
    assert variants(text, "dropped_sentence") == {left}


@pytest.mark.parametrize("name", ["punctuation", "typos", "letter_case", "code_switching"])
@pytest.mark.parametrize(
    "kept",
    [
        "max(x, y)",
        '"Lets eat, grandma"',
        "```\nif a, and b:\n    check the message\n```",
        '{"user": {"list": [1, null], "text": true}, "message": null}',
        "| product | Price |\n|---|---|\n| Lamp, and bulb | low |",
        "SELECT Price, message FROM Customer WHERE Team IS NULL",
        "<a title=Message>",
        "total = price, and = message",
    ],
)
def test_code_and_quotations_stay_as_they_are(kept, name):
    for text in (f"Explain this message to the customer:\n{kept}", f"{kept}\nPlease explain it."):
        assert all(kept in variant for variant in variants(text, name))


@pytest.mark.parametrize(
    "text",
    [
        "Explain this.\n```\nx\n```",
        'What does this mean: "Lets eat, grandma"',
        "Explain: `f(x)`",
        "The capital of France is",
        "Q: How many legs has a cat?\nA:",
        "I invited Tom, Ann and Bea",
        "Your parcel has arrived?",
    ],
)
def test_no_mark_that_ends_or_opens_something_else(text):
    for variant in variants(text, "punctuation"):
        assert variant.rstrip(".!?。！？…") != text.rstrip(".!?。！？…")


def test_a_question_that_its_mark_alone_tells_keeps_it():
    assert variants("你的包裹到了？", "punctuation") == {"你的包裹到了?"}
    assert variants("你的包裹到了吗？", "punctuation") == {"你的包裹到了吗?", "你的包裹到了吗"}


def test_commas_of_lists_and_addresses_stay():
    for text in (
        "Let us eat, grandma, then clean up. What happens?",
        "Which come in pairs: light blue, green, shoes, red socks?",
        "Passengers, who had tickets, got seats. Who got seats?",
    ):
        assert all(
            variant.count(",") == text.count(",") for variant in variants(text, "punctuation")
        )


@pytest.mark.parametrize(
    "text",
    [
        "Alice: Hi.\nBob: Good day.\nAlice: Bye.\nWho spoke last?",
        "Alice: The dog is ill.\nBob: I am sorry.\nHow does Bob react?",
        "What is printed?\n```\nif x: print(1)\nelif y: print(2)\nelse: print(3)\n```",
        "if x: print(1)\nelif y: print(2)\nelse: print(3)\nWhat is printed for x = 1?",
        "Breakfast: eggs\nLunch: soup\nWhat comes first?",
        "Mix: flour and eggs\nBake: then 20 minutes\nIs this a cake?",
        "早餐：鸡蛋\n午餐：汤\n首先吃什么？",
        "春天：播种\n秋天：收割\n第二步是什么？",
        "甲：你好\n乙：你好\n甲：再见\n谁说再见？",
        "小王：你吃了吗？\n小李：吃了。\n小李吃了吗？",
        "Read.\nname: lamp\n  colour: red\nprice: low",
        "I am tired. product: bed\nsize: big\nRecommend one.",
        "Monday: rain\nTuesday: sun\nIs the day with the sun the later one?",
        "A: red\nB: blue\nWhich is the colour of blood?",
        "red car: 10 km\nblue car: 12 km\nDid the former go further?",
        "old price: 10\nnew price: 12\nIs the latter higher?",
        "winner: Spain\nloser: Italy\nName the teams respectively.",
        "旧价格：10\n新价格：12\n后一个价格更高吗？",
        "苹果：3元\n梨：5元\n前者比后者贵吗？",
        "苹果：3元\n梨：5元\n头一样是什么？",
        "苹果：3元\n梨：5元\n两样分别多少钱？",
        "Summarise.\nproduct: lamp\nissue: the lamp broke\n  when it fell",
    ],
)
def test_the_order_of_lines_stays_where_it_may_matter(text):
    assert variants(text, "field_order") == set()


def test_labelled_sentences_may_change_places():
    text = "前提：猫在睡觉。\n假设：动物在休息。\n假设成立吗？"
    assert variants(text, "field_order") == {"假设：动物在休息。\n前提：猫在睡觉。\n假设成立吗？"}


@pytest.mark.parametrize(
    "text",
    [
        "她借给他钱，小明比小红高。",
        "小明在哪里？",
        "阿明和老周，从东边到西边，从上到下，大小和长短。",
        "外公、妻子、儿子和老公，正数和负数，加减乘除。",
        "那是真是假？对不对？再见还是在见？",
        "王芳先生、李回答先生",
    ],
)
def test_chinese_typos_spare_persons_names_and_relations(text):
    assert variants(text, "typos") == set()


def test_english_typos_make_no_other_word():
    text = "form trial quiet clock drips heater shop cost best lost date ship wide tired split team"
    others = (
        "from trail quite click drops hearer ship coat beat list dare wife wise tried spilt tram"
    )
    words = {*text.split(), *others.split()}
    for variant in variants(text, "typos"):
        changed = [
            new for old, new in zip(text.split(), variant.split(), strict=True) if old != new
        ]
        assert not set(changed) & words


def test_english_typos_spare_names():
    text = "Anna asked Mark whether Bernd had already written something nice about Lisbon."
    for variant in variants(text, "typos"):
        assert all(name in variant for name in ("Anna", "Mark", "Bernd", "Lisbon"))


@pytest.mark.parametrize(
    "text",
    [
        "Name the capital",
        "Order these",
        "address it",
        "What is the product of 3 and 5?",
        "Which order do the planets have?",
        "The complete works: is the set complete?",
        "Put the plates on the table and handle the vase.",
        "End with a question mark.",
        "He text them and will message her.",
        "They email us. Report it. Price it. Record them.",
        "He arrived on the following day.",
        "A train ticket is cheap.",
        "How many words: the customer paid",
        "Translate the message.",
        "18岁以下可以参加。",
        "结果他走了。",
        "学生成绩好。",
        "部分类型的计算机比较好。",
        "用户名在服务器上。",
        "好消息出问题了。",
    ],
)
def test_ambiguous_words_are_not_translated(text):
    assert variants(text, "code_switching") == set()


@pytest.mark.parametrize("name", sorted(set(PERTURBATIONS) - {"field_order"}))
@pytest.mark.parametrize(
    "text",
    [
        "Hello! How many words does this text contain?",
        "Hi. How many times does the letter r occur in strawberry?",
        "Good morning. Correct the spelling: I recieved the mesage, and left.",
        "Hello! Repeat the following text exactly: please check the customer",
        "你好！下面的句子有几个错别字？用户回答问题。",
        "你好！请原样重复：客户回答问题。",
        "你好！这句话有多少个字？",
    ],
)
def test_questions_about_the_text_itself_are_left_alone(text, name):
    assert variants(text, name) == set()


@pytest.mark.parametrize(
    "text",
    [
        "Translate into German: the sea is calm.",
        "判断情感：手机太差了。",
        "Classify the sentiment.\nThe lamp is awful.",
        "Continue: once upon a time",
        "Q: How many legs has a cat?\nA:",
    ],
)
def test_no_thanks_become_part_of_a_text_to_work_on(text):
    assert variants(text, "padding")
    assert all(variant.endswith(text) for variant in variants(text, "padding"))


@pytest.mark.parametrize(
    "text",
    [
        "State law forbids it. Is it legal?",
        "Complete silence fell. Why?",
        "Show business is hard. True?",
        "请用户在今天回答。",
        "请计算机系的同学回答。",
    ],
)
def test_what_only_looks_like_an_order_gets_a_frame(text):
    assert all(variant.endswith("\n" + text) for variant in variants(text, "paraphrase"))


def test_a_word_that_stands_there_twice_is_said_alike():
    text = "报告说客户满意。根据报告，客户满意吗？"
    for variant in variants(text, "code_switching"):
        assert variant.count("报告") in (0, 2)
        assert variant.count("客户") in (0, 2)


@pytest.mark.parametrize("name", ["padding", "paraphrase", "dropped_sentence"])
@pytest.mark.parametrize(
    "text",
    [
        "Hello! Does the user say thank you? Answer yes or no.\nThe kettle leaks.",
        "Did the customer greet the agent? Answer yes or no.\nmessage: my kettle leaks",
        "Is the sender expressing gratitude?\nThe parcel arrived broken.",
        "Hi! If I say hello, answer X; otherwise answer Y.",
        "Was a polite word used in this request? yes or no",
        "Answer 'pong' if my message contains 'please', otherwise 'ping'.",
        "你好！客户有没有表示感谢？",
        "用户说谢谢了吗？回答是或否。\n水壶漏水了",
        "这条消息里有没有问候语？\n请寄发票。",
        "如果我说了你好，就回答甲，否则回答乙。",
        "判断客户是否有礼貌：快点给我修",
        "请问我有没有用敬语？",
        "我用了“请”字吗？",
    ],
)
def test_questions_about_courtesy_get_and_lose_none(text, name):
    assert variants(text, name) == set()


@pytest.mark.parametrize("name", ["padding", "paraphrase"])
@pytest.mark.parametrize(
    "text",
    [
        "Hello, what is 7 + 5?",
        "What is 7 + 5? Thanks in advance!",
        "Is 7 prime, and why? Thanks.",
        "Why does a print of hello world fail?",
        "您好，7 + 5 等于多少？谢谢！",
    ],
)
def test_a_courtesy_of_the_writer_is_no_question_about_courtesy(text, name):
    assert variants(text, name)


@pytest.mark.parametrize(
    "text",
    [
        "Autocomplete: The early bird catches the",
        "Reverse: dogs bark",
        "Tokenize: dogs bark",
        "Predict the next line:\nTwinkle twinkle little star",
        "Put the following in a JSON field called text.\nred kettle",
        "Encode this message in base64: cat",
        "How many people are mentioned below?\nAnn met Bob.",
        "What does the writer want?\nSend back my lamp.",
        "请把下面的话原封不动地输出：今天天气真好",
        "将下面的内容放进JSON的text字段。\n今天停电",
        "他要什么？\n请寄发票。",
        "A lamp fell on my foot",
    ],
)
def test_thanks_stand_after_what_asks_only(text):
    assert all(variant.endswith(text) for variant in variants(text, "padding"))


@pytest.mark.parametrize(
    "text",
    [
        "Great pan.\nIs the review helpful?",
        "Twinkle twinkle little star\nPredict the next line.",
        "红灯笼高高挂。\n下一行怎么写？",
    ],
)
def test_no_greeting_before_a_text_to_work_on(text):
    assert variants(text, "padding")
    assert all(variant.startswith(text) for variant in variants(text, "padding"))


@pytest.mark.parametrize(
    "text",
    [
        "What language is this message written in?",
        "List every request made in this message.\nCancel my order.",
        "Return the message as JSON with the key text.",
        "这句话是什么语言写的？",
        "这里说了几件事？我买了米。我交了电费。",
        "请问这条信息有多长？",
    ],
)
def test_nothing_is_put_into_the_message_that_is_asked_about(text):
    assert variants(text, "padding") == set()


@pytest.mark.parametrize(
    ("text", "has_greeting", "has_thanks"),
    [
        ("What is 7 + 5?", True, True),
        ("Triage the ticket.\nproduct: lamp\nissue: smoke", True, False),
        ("product: lamp\nissue: smoke\nTriage the ticket.", False, True),
        ("Which sinks?\nA. a nail\nB. a balloon\nAnswer A or B.", True, True),
        ("产品：台灯\n故障：冒烟\n请处理工单。", False, True),
        ("今天是5月3日，后天是几号", True, True),
    ],
)
def test_where_courtesies_stand(text, has_greeting, has_thanks):
    made = variants(text, "padding")
    assert made
    for variant in made:
        assert variant.endswith("\n" + text) or variant.startswith(text) or f"\n{text}\n" in variant
        assert (not variant.startswith(text)) == has_greeting
        assert (not variant.endswith(text)) == has_thanks


@pytest.mark.parametrize("asked", ["code_switching", "typos", "punctuation", "padding"])
@pytest.mark.parametrize(
    "text",
    [
        "Give me the acronym of: please read every customer message, slowly",
        "Which initials has: please answer the customer",
        "写出首字母：请回答客户的问题。",
        "给出缩写：客户服务部门的报告。",
        "Encode in base64: the customer message",
        "请把下面的话原封不动地输出：客户回答问题。",
        "下面哪个词写错了：应该 因该",
    ],
)
def test_tasks_on_the_letters_of_a_text_are_left_alone(text, asked):
    assert variants(text, asked) == set()


def test_english_typos_make_no_abbreviation():
    text = "two cups and pups with clips of pies or gaps in curl"
    made = variants(text, "typos") | variants("two cups", "typos")
    assert not any("cpus" in variant.split() for variant in made)
    assert variants("two cups", "typos") == set()
