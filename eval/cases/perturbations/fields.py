"""The order of `key: value` lines, where it says nothing."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from eval.cases.perturbations.text import FENCE, FIELD, Span

_CODE_KEY = re.compile(
    r"(?:if|elif|for|while|def|class|except|with|case|match|switch|async|lambda)\s"
    r"|(?:else|try|finally|except|default)$"
)
# One letter, a number at the end ("step 2"), a day, a sentence, or a part in a conversation.
_RANKED_KEY = re.compile(
    r".$|.*[.!?,。！？，].*|(?:mon|tues|wednes|thurs|fri|satur|sun)day$|(?:周|星期)[日天]$|.*(?:\d|[一二三四五六七八九十])$|(?:user|assistant|system|human|bot|ai|agent|speaker|"
    r"question|answer|q|input|output|用户说|助手|系统|客服|问|答|输入|输出)$",
    re.IGNORECASE,
)
# Sentences under such keys are texts to compare and no turns of a conversation.
_TEXT_KEY = re.compile(
    r"(?:premise|hypothesis|context|passage|text|background|issue|description|problem|note|comment|"
    r"summary|message|subject|title|claim|evidence|review|前提|假设|背景|材料|文本|描述|问题描述|备注|"
    r"说明|主题|标题|论点|证据|内容|评论)$",
    re.IGNORECASE,
)
_PROCEDURE = re.compile(
    r"(?i:\b(?:first|firstly|then|next|finally|afterwards|steps?|sequence)\b)"
    r"|首先|然后|接着|随后|最后|步骤|顺序|依次|第.{1,2}[步个项行条]"
)
_ORDER = re.compile(
    r"(?i:\b(?:second|third|last|next|former|latter|respectively|before|after|previous|following|above|earlier|later|latest|top|"
    r"bottom|lines?|rows?|rank\w*|sort\w*|order of|in order|which order|same order|chronolog\w+|"
    r"list order|begin\w*|start\w*|ends? with)\b)"
    r"|先|之前|之后|以前|以后|[前后][面一两者]|[上下]一|头[一几两]|分别|上面|上述|最初|末|排序|排列|次序|按.{0,4}序|第[一二三四五六七八九十\d]"
)
_SENTENCE = re.compile(r"[.!?。！？]$")


def field_order(text: str, rng: random.Random, facts: Sequence[str]) -> str | None:
    """Shuffle the longest run of `key: value` lines, unless their order may mean something."""
    lines = text.split("\n")
    start, stop = _longest_run([FIELD.fullmatch(line) is not None for line in lines])
    fields = lines[start:stop]
    prose = "\n".join([*lines[:start], *lines[stop:]])
    if len(fields) < 2 or FENCE.search(text) or not _is_record(fields):
        return None
    if _PROCEDURE.search(text) or _ORDER.search(prose) or _goes_on(lines[stop:]):
        return None
    shuffled = fields
    while shuffled == fields:
        shuffled = rng.sample(fields, len(fields))
    return "\n".join([*lines[:start], *shuffled, *lines[stop:]])


def _is_record(fields: Sequence[str]) -> bool:
    """Whether lines are the facts of one thing: neither code, nor options, nor a conversation."""
    found = [match for match in map(FIELD.fullmatch, fields) if match is not None]
    keys = [match["key"].strip().lower() for match in found]
    if len(set(keys)) < len(keys) or len({match["indent"] for match in found}) > 1:
        return False
    if any(_CODE_KEY.match(key) or _RANKED_KEY.fullmatch(key) for key in keys):
        return False
    if any(_ORDER.search(key) for key in keys):
        return False
    spoken = [
        match
        for match, key in zip(found, keys, strict=True)
        if _SENTENCE.search(match["value"].rstrip()) and not _TEXT_KEY.fullmatch(key)
    ]
    return len(spoken) < 2


def _goes_on(after: Sequence[str]) -> bool:
    """Whether the value of the last field has more lines."""
    return bool(after) and bool(re.match(r"[^\S\n]+\S|[a-z]", after[0]))


def _longest_run(flags: Sequence[bool]) -> Span:
    """The longest run of true flags, as a half-open range."""
    best = (0, 0)
    start = 0
    for i, flag in enumerate(flags):
        if not flag:
            start = i + 1
        elif i + 1 - start > best[1] - best[0]:
            best = (start, i + 1)
    return best
