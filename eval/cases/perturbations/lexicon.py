"""Words with one translation each, and the contexts in which they have it.

A row is a pattern and what to say instead. The patterns look around the word: "the message" is a
noun, "message them" is none; "product of 3 and 5" is no article of a shop.
"""

from __future__ import annotations

import re

# After these a noun follows, before those it is a verb or half of another word.
_NOUN = (
    r"(?:(?<=\bthe )|(?<=\bthis )|(?<=\ba )|(?<=\ban )|(?<=\byour )|(?<=\bmy )|(?<=\bour )"
    r"|(?<=\btheir )|(?<=\bits )|(?<=\beach )|(?<=\bevery )|(?<=\bsupport )|(?<=\bservice ))"
)
_NO_OBJECT = (
    r"(?![ ](?:the|an?|this|that|these|those|it|them|me|him|her|us|you|my|your|our|his|their|of|"
    r"mark|tag|line|number|book|card|address|high|low)\b|[-\w'’])"
)
_KEY = r"(?=[ ]?:[ ])"
_VERB = (
    r"(?:(?<=^)|(?<=\bplease )|(?<=[.!?] )|(?<=\byou )|(?<=\band )|(?<=\bis to ))"
    r"{word}(?=[ ](?:the|an?|this|that|these|those|all|each|every|exactly|only|what|which|how|why|"
    r"whether|my|your|our|its|their|in|to|with|one|two|three|four|five)\b)"
)
_NOUNS = {
    "question": "问题",
    "text": "文本",
    "paragraph": "段落",
    "article": "文章",
    "email": "邮件",
    "message": "消息",
    "report": "报告",
    "record": "记录",
    "customer": "客户",
    "user": "用户",
    "reason": "原因",
    "category": "类别",
    "priority": "优先级",
    "deadline": "截止日期",
    "price": "价格",
    "payment": "付款",
    "refund": "退款",
    "warranty": "保修",
    "department": "部门",
    "team": "团队",
    "company": "公司",
}
_KEYS = {
    "product": "产品",
    "order": "订单",
    "date": "日期",
    "address": "地址",
    "phone": "电话",
    "ticket": "工单",
    "delivery": "配送",
    "problem": "故障",
    "answer": "回答",
}
_VERBS = {
    "explain": "解释",
    "describe": "描述",
    "answer": "回答",
    "list": "列出",
    "compare": "比较",
    "analyze": "分析",
    "calculate": "计算",
    "generate": "生成",
    "provide": "提供",
    "choose": "选择",
    "recommend": "推荐",
}
ENGLISH: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE | re.MULTILINE), translation)
    for pattern, translation in (
        *((rf"{_NOUN}{word}\b{_NO_OBJECT}", chinese) for word, chinese in _NOUNS.items()),
        *((rf"^{word}\b{_KEY}", chinese) for word, chinese in (_NOUNS | _KEYS).items()),
        *((_VERB.replace("{word}", word), chinese) for word, chinese in _VERBS.items()),
        (r"\bsupport(?= ticket\b)", "支持"),
        (r"(?<=\bsupport )ticket\b", "工单"),
        (r"(?<=\bservice )ticket\b", "工单"),
        (r"(?:(?<=\ba )|(?<=\bthe ))reply(?= to the (?:customer|user)\b)", "回复"),
        (r"\bservice(?= (?:record|ticket|report|request|team|desk)\b)", "服务"),
        (r"(?<![-\w])please(?= (?:\w+ly )?(?:write|answer|tell|list|explain|describe|give|reply|"
         r"check|find|name|compute|calculate|read|note|help|send)\b)", "请你"),
        (r"\byesterday(?!['’])", "昨天"),
        (r"\btomorrow(?!['’])", "明天"),
        (r"\baccording to\b(?= (?:the|this|your))", "根据"),
        (r"\bthe following(?= (?:questions?|texts?|problems?|tasks?|sentences?|fields|data)\b"
         r"|:)", "以下"),
        (r"\bin detail\b", "详细地"),
        (r"(?:(?<=\byour )|(?<=\bthis )|(?<=\bour ))product\b(?! of\b)", "产品"),
    )
)  # fmt: skip

# Where a word may begin or end inside two others ("学生|成绩"), or mean something else.
CHINESE: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.MULTILINE), translation)
    for pattern, translation in (
        (r"(?<![一作])回答(?!者)", "answer"),
        (r"(?<=回答)问题|(?<=下列)问题|(?<=以下)问题|^问题(?=：)", "question"),
        (r"文本(?!框)", "text"),
        (r"段落", "paragraph"),
        (r"文章", "article"),
        (r"邮件(?![地箱])", "email"),
        (r"(?<!海)(?<!预)报告(?![诉厅])", "report"),
        (r"(?<!登)记录(?![入片器取])", "record"),
        (r"(?<!派)工单(?!位)", "ticket"),
        (r"(?<!签)订单(?!位|独)", "order"),
        (r"(?<!大)客户(?![端口外])", "customer"),
        (r"(?<![租雇信作使])用户(?![名口外])", "user"),
        (r"(?<![水生出副])产品(?![牌质味])", "product"),
        (r"原因(?!为)", "reason"),
        (r"类别", "category"),
        (r"优先级", "priority"),
        (r"截止日期", "deadline"),
        (r"(?<!生)(?<!止)日期(?!间)", "date"),
        (r"地址", "address"),
        (r"^姓名(?=[：:])|(?<=的)姓名", "name"),
        (r"^(?:联系)?电话(?=[：:])", "phone"),
        (r"价格", "price"),
        (r"退款", "refund"),
        (r"保修", "warranty"),
        (r"(?<![内外全])部门(?![口窗锁])", "department"),
        (r"(?<!社)团队(?![伍长员])", "team"),
        (r"公司(?![机令])", "company"),
        (r"(?<=请)解释|(?<=要)解释", "explain"),
        (r"(?<=请)描述|^描述", "describe"),
        (r"(?:(?<=请)|(?<=^)|(?<=[，。]))列出", "list"),
        (r"(?:(?<=请)|(?<=^))比较(?=[一下这两以])", "compare"),
        (r"(?:(?<=请)|(?<=^))分析(?!师)", "analyze"),
        (r"(?:(?<=请)|(?<=^)|(?<=[，。]))计算(?![机器])", "calculate"),
        (r"(?:(?<=请)|(?<=^))检查(?!站|员)", "check"),
        (r"(?:(?<=请)|(?<=^)|(?<=请你))处理(?![器品由])", "handle"),
        (r"(?:(?<=请)|(?<=^))提供(?!商)", "provide"),
        (r"(?:(?<=请)|(?<=^))推荐", "recommend"),
        (r"(?:(?<=请)|(?<=^))生成(?![绩本员长])", "generate"),
        (r"(?<![如])今天(?!真)", "today"),
        (r"(?<!光)明天(?![使空])", "tomorrow"),
        (r"(?<!有)根据(?=[上以下短文材这])", "according to"),
        (r"详细地(?![址点])", "in detail"),
        (r"程序(?![员])", "program"),
        (r"(?<=输出)结果|结果(?=是[什多几])", "result"),
        (r"代码(?=的|[。，？：\n]|$)", "code"),
        (r"(?:阿拉伯)?数字(?=作答|。|$)", "digits"),
        (r"短文(?=[，。：])", "text"),
    )
)  # fmt: skip
