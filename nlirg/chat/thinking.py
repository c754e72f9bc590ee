"""Thinking before an answer, between `<think>` tags that its prompt may have opened or closed."""

from __future__ import annotations

import re

from nlirg.errors import BadRowError

OPENED = re.compile(r"<think>\s*\Z")  # a generation prompt that begins the thinking
# Dumps of models whose prompts begin the thinking lack the tag that begins it; then the one that
# ends it is a line's last.
THINKING = re.compile(
    r"\s*<think>(.*?)</think>\s*|((?:(?!<think>).)*?)</think>[ \t]*\n\s*", re.DOTALL
)
CLOSED = re.compile(r"(<think>\s*)?</think>\s*\Z")  # one that has ended it
BEFORE = re.compile(r"\s*(<think>((?!<think>).)*?</think>|</?think>)\s*", re.DOTALL)


def split_thinking(content: str) -> tuple[str, str]:
    """Split thinking in `<think>` tags from the answer after it; "" if there is none.

    Raises:
        BadRowError: if the thinking does not end.
    """
    found = THINKING.match(content)
    if found is None and content.lstrip().startswith("<think>\n"):
        raise BadRowError("the answer's thinking does not end")
    if found is None or not content[found.end() :].strip():
        return "", content
    return (found[1] or found[2] or "").strip(), content[found.end() :]


def split_generated(prompt: str, text: str) -> tuple[str, str]:
    """Split what a model has written into its thinking and its answer.

    Args:
        prompt: that it answers, which may have begun the thinking.
        text: that it wrote; thinking that does not end leaves no answer.
    """
    begun = OPENED.search(prompt) is not None
    if not begun and not text.lstrip().startswith("<think>"):
        return "", text
    thinking, end, answer = text.partition("</think>")
    return thinking.removeprefix("<think>").strip(), answer.strip() if end else ""


def thinking_text(reasoning: str) -> str:
    """Write thinking as text before an answer."""
    return f"<think>\n{reasoning}\n</think>\n\n"


def goes_on(prompt: str, lead: str, follows: bool, reasoning: str) -> bool:
    """Say whether what a template writes before an answer goes on with its generation prompt.

    It holds the reasoning, and ends the thinking once if it is begun there or in the prompt.
    """
    begun, ended = lead.count("<think>"), lead.count("</think>")
    if OPENED.search(prompt):
        tags = (begun, ended) == (0, 1)
        follows = follows or lead.lstrip().startswith(reasoning.strip() or "</think>")
    else:
        tags = begun == ended <= (0 if CLOSED.search(prompt) else 1)
    return follows and tags and holds(lead, reasoning)


def without_thinking(text: str) -> str:
    """Strip thinking, and tags that are left of it, from the beginning of a text."""
    while found := BEFORE.match(text):
        text = text[found.end() :]
    return text


def own_thinking(prompt: str, reasoning: str) -> str:
    """Return an answer's thinking as text that follows a prompt.

    A prompt that has begun the thinking is gone on with; if there is none, it is ended at once, as
    templates do that write both (Qwen3.5's): what stands within is no answer to who reads it.
    """
    if OPENED.search(prompt):
        return thinking_text(reasoning).removeprefix("<think>\n")
    return thinking_text(reasoning) if reasoning else ""


def holds(text: str, words: str) -> bool:
    """Say whether words stand in a text, whatever was done to white space."""
    return "".join(words.split()) in "".join(text.split())
