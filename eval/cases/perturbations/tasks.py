"""Where in a message something is asked: the sentences that no rewording may lose."""

from __future__ import annotations

import re

from eval.cases.perturbations.text import Span

_SENTENCE_END = re.compile(
    r"(?<!\bMr)(?<!\bMs)(?<!\bMrs)(?<!\bDr)(?<!\b[A-Z])[.!?…]+(?:\s+|$)|[。！？…]+\s*|\n+"
)
# An order to begin with, and something that only an order takes next: "State law" is none.
IMPERATIVE = re.compile(
    r"(?:please\s+)?(?P<verb>write|list|explain|summari[sz]e|describe|give|tell|translate|classify|"
    r"generate|create|find|extract|compute|calculate|answer|fill|reply|draft|name|identify|sort|"
    r"rewrite|convert|analy[sz]e|compare|suggest|provide|make|produce|determine|handle|triage|"
    r"choose|complete|check|decide|correct|count|state|show|read)"
    r"(?=\s+(?:an?|the|this|that|these|those|my|your|our|his|her|its|their|all|any|each|every|both|"
    r"some|one|two|three|four|five|six|seven|eight|nine|ten|me|us|it|them|what|which|who|how|why|"
    r"where|when|whether|if|in|into|to|from|with|for|on|out|up|about|as|exactly|only|briefly)\b"
    r"|\s+[\"'“`\d])",
    re.IGNORECASE,
)
IMPERATIVE_ZH = re.compile(
    r"请(?:你|您)?(?=写(?!手)|列|总结|概括|解释|说明|描述|给|翻译(?![来帮])|分类|生成|创建|找|提取|"
    r"计算(?!机)|回答|填|回复|起草|命名|识别|排序|改写|转换|分析|比较|建议|提供(?!商)|判断|处理(?!器)|"
    r"完成|阅读|根据|将(?!军)|把|用(?!户)|以|对(?!方)|按|帮)"
)
# Anything that may ask, or say how: wide, as a task taken for an aside is lost.
_QUESTION = re.compile(
    r"[?？吗呢]|什么|怎么|怎样|如何|哪|谁|几|多少|为何|是否|能否|可否|有无"
    r"|(?i:\b(?:what|why|how|who|whom|whose|which|where|when|can you|could you|would you|want you|"
    r"like you|need you|you to|your task|you are|you will|let|please)\b)"
)
_TASK_ZH = re.compile(
    r"请|帮|写|列|总结|概括|解释|说明|描述|翻译|分类|生成|提取|计算|回答|作答|填|回复|起草|识别|排序|改写|"
    r"转换|分析|比较|建议|提供|判断|处理|完成|阅读|假设|假定|设|忽略|避免|使用|提及|提到|注意|记住|"
    r"考虑|保持|遵守|确保|告诉|介绍|选|找|给|用|以|把|将|按|根据"
)
_BASE_VERB = re.compile(
    r"\W*(?:also|then|and|now|first|next|finally|do|don['’]t|always|never|kindly|just|only)?,?\s*"
    r"(?:act|add|address|adopt|analy[sz]e|answer|apply|arrange|ask|assess|assign|assume|attach|avoid|"
    r"base|be|begin|call|categori[sz]e|check|choose|cite|classify|combine|compare|complete|compose|"
    r"compute|consider|continue|convert|copy|correct|count|create|decide|define|delete|describe|design|"
    r"determine|discuss|draft|draw|edit|end|ensure|estimate|evaluate|exclude|expand|explain|express|"
    r"extract|fill|find|finish|fix|focus|follow|forget|format|generate|get|give|go|guess|handle|help|"
    r"identify|ignore|imagine|improve|include|insert|keep|label|leave|limit|list|look|make|mark|match|"
    r"mention|merge|name|note|offer|omit|order|organi[sz]e|outline|output|pay|pick|plan|play|predict|"
    r"prepare|present|pretend|print|produce|prove|provide|put|quote|rank|rate|read|recall|recommend|"
    r"refer|remember|remove|rephrase|replace|reply|report|respond|return|reverse|review|rewrite|say|"
    r"select|send|set|shorten|show|sign|simplify|skip|solve|sort|speak|specify|spell|start|state|"
    r"stick|stop|structure|suggest|summari[sz]e|suppose|take|tell|think|translate|treat|triage|try|"
    r"turn|use|verify|wait|work|write)(?=\W)",
    re.IGNORECASE,
)
# Narrower: a last sentence that asks for certain, and has no text to work on behind it.
_PLAINLY_ASKS = re.compile(
    r"[?？][\"'”’」)）]*\s*$|[吗呢]\W*$|什么|怎么|怎样|如何|哪|谁|几|多少|为何|是否|能否|可否|有无"
    r"|^\W*(?:请|麻烦|帮|把|将(?!军)|给|用(?!户)|按|根据|判断|回答|写|列出|列举|总结|选择?|计算|解释|说明)"
    r"|(?i:^\W*(?:what|why|how|who|whom|whose|which|where|when|(?:can|could|would) you|please)\b)"
)
_SAYS_HOW = re.compile(r"\W*(?:answer\b|请?只?(?:回答|作答))", re.IGNORECASE)


def sentences(text: str) -> list[Span]:
    """Cut a text after every mark and line break; the parts cover it."""
    ends = [match.end() for match in _SENTENCE_END.finditer(text)]
    if not ends or ends[-1] < len(text):
        ends.append(len(text))
    return list(zip([0, *ends], ends, strict=False))


def body(sentence: str) -> str:
    """A sentence without its end."""
    return _SENTENCE_END.sub("", sentence).strip()


def asks(sentence: str) -> bool:
    """Whether a sentence may be a question, an order or a condition of one."""
    return bool(
        _BASE_VERB.match(sentence) or _QUESTION.search(sentence) or _TASK_ZH.search(sentence)
    )


def ends_asking(text: str) -> bool:
    """Whether the last line asks and is no part of a text that a line before asks to work on."""
    *before, last = [line for line in text.split("\n") if line.strip()]
    said = [last[slice(*span)] for span in sentences(last)][-1]
    if re.search(r"[:：]", last) or not (_BASE_VERB.match(said) or _PLAINLY_ASKS.search(said)):
        return False
    return bool(_SAYS_HOW.match(said)) or not any(asks(line) for line in before)
