"""Variants of a prompt that ask for the same answer: seeded, pure, and careful with facts.

Every perturbation rewrites one user message and returns None where it does not apply. The
`protected` strings (what the checker looks for) and all digits survive: a variant must remain a
fair question.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence

Perturbation = Callable[[str, random.Random, Sequence[str]], str | None]

TYPO_SHARE = 0.05  # of the letters that may be touched
MIN_TYPO_WORD = 4  # letters: shorter words become other words

_HAN = re.compile(r"[\u3400-\u9fff]")
_LATIN = re.compile(r"[A-Za-z]")
_WORD = re.compile(r"[A-Za-z]+")
# Codes, addresses, identifiers: a changed letter makes them another thing, not a typo.
_CODE = re.compile(r"[!-~]*[0-9@/\\_][!-~]*")
_FIELD = re.compile(r"\s*(?:[-*•]\s*)?[^\W\d_][^:：\n]{0,40}[:：](?!//)\s*\S.*")
_IMPERATIVE = re.compile(
    r"(?:please\s+)?(?P<verb>write|list|explain|summari[sz]e|describe|give|tell|translate|classify|"
    r"generate|create|find|extract|compute|calculate|answer|fill|reply|draft|name|identify|sort|"
    r"rewrite|convert|analy[sz]e|compare|suggest|provide|make|produce|determine|handle)(?=\s)",
    re.IGNORECASE,
)

_KEYBOARD_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_NEIGHBOURS = {
    letter: row[max(i - 1, 0) : i] + row[i + 1 : i + 2]
    for row in _KEYBOARD_ROWS
    for i, letter in enumerate(row)
}
# Characters of one sound that input methods confuse.
_HOMOPHONES = dict(zip("的得在再做那像账需已", "得的再在作哪象帐须以", strict=True))
_WIDE = dict(zip(",.!?:;()", "，。！？：；（）", strict=True))
_NARROW = {wide: narrow for narrow, wide in _WIDE.items()}
_FINAL = ".!?。！？…"

_FRAMES = (
    "I need your help with the following task.\n{text}",
    "Here is what I would like you to do:\n{text}",
    "Would you mind taking care of this?\n{text}",
)
_FRAMES_ZH = (
    "我想请你完成下面的任务。\n{text}",
    "下面这件事需要你来处理：\n{text}",
    "能否帮我解决以下问题？\n{text}",
)
_REQUESTS = ("Could you {text}", "I would like you to {text}", "Your task is to {text}")
_REQUESTS_ZH = ("麻烦你{text}", "能不能{text}", "我希望你{text}")
_BEFORE = ("Hello!", "Hi there, I hope you are well.", "Good morning.")
_AFTER = ("Thank you very much!", "Thanks in advance.", "I appreciate your help.")
_BEFORE_ZH = ("你好！", "您好，打扰一下。", "早上好。")
_AFTER_ZH = ("非常感谢！", "谢谢你的帮助。", "辛苦了，谢谢。")


def perturb(text: str, name: str, seed: str, protected: Sequence[str] = ()) -> str | None:
    """Apply one perturbation to a user message.

    Args:
        text: the message.
        name: a key of `PERTURBATIONS`.
        seed: any string; equal arguments give equal results, in every process.
        protected: strings that must survive where the message holds them.

    Returns:
        The variant, or None if the perturbation does not apply or would change nothing.
    """
    facts = [value for value in protected if value.strip() and value in text]
    changed = PERTURBATIONS[name](text, random.Random(f"{name}:{seed}"), facts)
    if changed is None or changed == text or any(fact not in changed for fact in facts):
        return None
    return changed


def is_chinese(text: str) -> bool:
    """Whether a message is mostly Chinese: a character says about as much as four letters."""
    return 4 * len(_HAN.findall(text)) > len(_LATIN.findall(text))


def paraphrase(text: str, rng: random.Random, protected: Sequence[str]) -> str | None:
    """Ask indirectly: "Write …" becomes "Could you write …", anything else gets a frame."""
    if not text.strip():
        return None
    if is_chinese(text):
        if text.startswith("请") and len(text) > 1:
            return rng.choice(_REQUESTS_ZH).format(text=text.removeprefix("请"))
        return rng.choice(_FRAMES_ZH).format(text=text)
    imperative = _IMPERATIVE.match(text)
    if imperative and not _overlaps(imperative.span(), _spans(text, protected)):
        request = imperative["verb"].lower() + text[imperative.end() :]
        return rng.choice(_REQUESTS).format(text=request)
    return rng.choice(_FRAMES).format(text=text)


def field_order(text: str, rng: random.Random, protected: Sequence[str]) -> str | None:
    """Shuffle the longest run of `key: value` lines."""
    lines = text.split("\n")
    start, stop = _longest_run([_FIELD.fullmatch(line) is not None for line in lines])
    fields = lines[start:stop]
    if len(set(fields)) < 2:
        return None
    shuffled = fields
    while shuffled == fields:
        shuffled = rng.sample(fields, len(fields))
    return "\n".join([*lines[:start], *shuffled, *lines[stop:]])


def typos(text: str, rng: random.Random, protected: Sequence[str]) -> str | None:
    """Swap or mistype about 5 % of the letters of longer words; homophones in Chinese."""
    spans = _spans(text, protected)
    if is_chinese(text):
        return _homophones(text, rng, spans)
    forbidden = spans + [match.span() for match in _CODE.finditer(text)]
    words = [
        match.span()
        for match in _WORD.finditer(text)
        if len(match[0]) >= MIN_TYPO_WORD and not _overlaps(match.span(), forbidden)
    ]
    if not words:
        return None
    letters = list(text)
    wanted = max(1, round(TYPO_SHARE * sum(stop - start for start, stop in words)))
    for start, stop in rng.sample(words, min(wanted, len(words))):
        _mistype(letters, rng.randrange(start + 1, stop - 1), rng)
    return "".join(letters)


def punctuation(text: str, rng: random.Random, protected: Sequence[str]) -> str | None:
    """Change the width of punctuation (Chinese), the case of letters, or the final mark."""
    spans = _spans(text, protected)
    changes = [_final_mark(text), _mapped(text, spans, str.lower), _mapped(text, spans, str.upper)]
    if is_chinese(text):
        changes = [_mapped(text, spans, _other_width), changes[0]]
    applicable = [change for change in changes if change != text]
    return rng.choice(applicable) if applicable else None


def padding(text: str, rng: random.Random, protected: Sequence[str]) -> str | None:
    """Put a greeting before the message and thanks after it."""
    if not text.strip():
        return None
    before, after = (_BEFORE_ZH, _AFTER_ZH) if is_chinese(text) else (_BEFORE, _AFTER)
    return f"{rng.choice(before)}\n{text}\n{rng.choice(after)}"


PERTURBATIONS: dict[str, Perturbation] = {
    "paraphrase": paraphrase,
    "field_order": field_order,
    "typos": typos,
    "punctuation": punctuation,
    "padding": padding,
}

Span = tuple[int, int]


def _spans(text: str, protected: Sequence[str]) -> list[Span]:
    """Where the protected strings stand, without case."""
    return [
        match.span()
        for value in protected
        for match in re.finditer(re.escape(value), text, re.IGNORECASE)
    ]


def _overlaps(span: Span, others: Sequence[Span]) -> bool:
    return any(span[0] < stop and start < span[1] for start, stop in others)


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


def _mistype(letters: list[str], i: int, rng: random.Random) -> None:
    """Transpose the letter at `i` with the next one, or hit the key beside it."""
    if letters[i] != letters[i + 1] and rng.random() < 0.5:
        letters[i], letters[i + 1] = letters[i + 1], letters[i]
        return
    key = rng.choice(_NEIGHBOURS[letters[i].lower()])
    letters[i] = key.upper() if letters[i].isupper() else key


def _homophones(text: str, rng: random.Random, spans: Sequence[Span]) -> str | None:
    places = [
        i
        for i, character in enumerate(text)
        if character in _HOMOPHONES and not _overlaps((i, i + 1), spans)
    ]
    if not places:
        return None
    characters = list(text)
    wanted = max(1, round(TYPO_SHARE * len(_HAN.findall(text))))
    for i in rng.sample(places, min(wanted, len(places))):
        characters[i] = _HOMOPHONES[characters[i]]
    return "".join(characters)


def _mapped(text: str, spans: Sequence[Span], change: Callable[[str], str]) -> str:
    """Change every character outside the spans and outside codes."""
    kept = [*spans, *(match.span() for match in _CODE.finditer(text))]
    touched = [True] * len(text)
    for start, stop in kept:
        touched[start:stop] = [False] * (stop - start)
    return "".join(
        change(character) if free else character
        for character, free in zip(text, touched, strict=True)
    )


def _other_width(character: str) -> str:
    return _WIDE.get(character) or _NARROW.get(character) or character


def _final_mark(text: str) -> str:
    """Drop the final mark, or put one."""
    bare = text.rstrip()
    if bare and bare[-1] in _FINAL:
        return bare.rstrip(_FINAL)
    return bare + ("！" if is_chinese(text) else "!")
