"""The same sentences with other marks, where no mark parts or tells anything."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from eval.cases.perturbations.spelling import mapped
from eval.cases.perturbations.tasks import asks, sentences
from eval.cases.perturbations.text import FIELD, Span, is_chinese, overlaps, protected_spans

_WIDE = dict(zip(",.!?:;()", "，。！？：；（）", strict=True))
_NARROW = {wide: narrow for narrow, wide in _WIDE.items()}
_FINAL = ".!?。！？…"
_MARKS = (".", "!", "...")
_MARKS_ZH = ("。", "！", "……")
# A question that is one without its mark.
_INTERROGATIVE = re.compile(
    r"[吗呢谁哪几]|什么|怎|如何|多少|为何|是否|能否|可否|有无|(.)不\1|还是"
    r"|(?i:\b(?:what|which|who|whom|whose|why|how|where|when)\b"
    r"|(?:^|, |: )\W*(?:is|are|was|were|am|do|does|did|can|could|will|would|shall|should|has|have|"
    r"had|may|might|must)(?:n['’]t)? \w)"
)
# Elsewhere a comma may part the items of a list, or those spoken to from what is done to them.
_IDLE_COMMA = re.compile(
    r"(?:(?<=\bPlease)|(?<=\bHowever)|(?<=\bHello)|(?<=\bHi)|(?<=\bAlso)|(?<=\bNow)),(?= )"
    r"|(?<=[A-Za-z]),(?= (?:please|but|what|how|why)\b)"
    r"|(?<=[A-Za-z]),(?= and (?:the|an?|I|we|you|he|she|it|they|do|give|say|answer|write)\b)"
)
_LISTED = re.compile(r"\s*(?:[A-Za-z\d][.)、]|[-*•])\s")
_LABEL = re.compile(r"(?<![!-~])[A-Za-z\d]\.(?=\s)|^\s*[A-Za-z\d]{1,2}[.)、：:]", re.MULTILINE)
_TEXT_BEHIND = re.compile(r"[:：]\s*\S")


def punctuation(text: str, rng: random.Random, facts: Sequence[str]) -> str | None:
    """Change the final mark, leave out idle commas, or (Chinese) change the width of all marks."""
    kept = protected_spans(text, facts) + [match.span() for match in _LABEL.finditer(text)]
    fields = [field.span() for field in FIELD.finditer(text)]
    changes = [_final_mark(text, rng, kept, fields)]
    if is_chinese(text):
        changes.append(mapped(text, kept, _other_width))
    else:
        changes.append(_without_commas(text, [*kept, *fields]))
    applicable = [change for change in changes if change != text]
    return rng.choice(applicable) if applicable else None


def _other_width(character: str) -> str:
    return _WIDE.get(character) or _NARROW.get(character) or character


def _without_commas(text: str, kept: Sequence[Span]) -> str:
    """Leave out the commas that part nothing."""
    idle = {m.start() for m in _IDLE_COMMA.finditer(text) if not overlaps(m.span(), kept)}
    return "".join(character for i, character in enumerate(text) if i not in idle)


def _final_mark(text: str, rng: random.Random, kept: Sequence[Span], fields: Sequence[Span]) -> str:
    """Drop or put the mark after the last sentence outside fields, if that sentence asks."""
    told = [span for span in sentences(text) if text[slice(*span)].strip()]
    told = [span for span in told if not overlaps(span, fields)]
    if not told:
        return text
    sentence = text[slice(*told[-1])].rstrip()
    end = told[-1][0] + len(sentence)
    bare = text[:end].rstrip(_FINAL)
    is_question = sentence[-1] in "?？"
    holds_text = _TEXT_BEHIND.search(sentence) and not is_question
    if not asks(sentence) or holds_text or _LISTED.match(sentence):
        return text
    if overlaps((len(bare) - 1, end), kept):
        return text
    if len(bare) < end:
        return text if is_question and not _INTERROGATIVE.search(sentence) else bare + text[end:]
    if not bare[-1].isalnum():
        return text
    return bare + rng.choice(_MARKS_ZH if is_chinese(text) else _MARKS) + text[end:]
