"""Answers that call functions, as a template writes them."""

from __future__ import annotations

import re
from typing import Any

from nlirg.chat.conversation import WRITES_BESIDE, Conversation
from nlirg.chat.following import AnswerText, common_length, written_after
from nlirg.chat.template import CALL_ID, RESULT, CallForm, ChatTemplate, Tools
from nlirg.chat.thinking import goes_on, holds, own_thinking, without_thinking
from nlirg.errors import BadRowError


def calling_answer(
    template: ChatTemplate, conversation: Conversation, number: int, prompt: str
) -> AnswerText:
    """Return an answer that calls functions."""
    turn = conversation.turns[number]
    names = [call["function"]["name"] for call in turn.calls]
    written, follows, followed = _called(template, conversation, number, prompt)
    calls, end = _call_end(template, written, names[-1], followed)
    lead, notes = "", list[str]()
    if not goes_on(prompt, calls[: calls.find(names[0])], follows, turn.reasoning):
        calls = _without_head(template, prompt, calls, names[0])
        lead = own_thinking(prompt, turn.reasoning)
        calls = calls.lstrip() if lead else calls
    if not holds(calls, turn.content):
        lead, notes = lead + turn.content.strip(), [WRITES_BESIDE]
    return AnswerText(prompt, lead, calls, end, tuple(notes))


def _called(
    template: ChatTemplate, conversation: Conversation, number: int, prompt: str
) -> tuple[str, bool, tuple[int, str]]:
    """Return what the template writes of a calling turn: see `_written`, and `_followed`.

    Some templates print either a turn's text or its calls, or the text after them, or as a turn of
    its own; then the calls alone.
    """
    turn, tools = conversation.turns[number], conversation.tools
    names = [call["function"]["name"] for call in turn.calls]
    form = template.call_form or CallForm()
    for content in dict.fromkeys([turn.message["content"], form.empty]):
        messages = [*conversation.messages(number), {**turn.message, "content": content}]
        whole = template.render(messages, tools, prompt=False)
        written, follows = written_after(template, conversation, number, prompt, whole)
        last, said = written.rfind(names[-1]), (content or "").strip()
        beside = 0 <= written.find(said or names[-1]) <= last
        spoken = template.end_of_words.strip()
        before = written[: max(0, last)]
        if turn.reasoning:
            before = before.rpartition(turn.reasoning)[2].lstrip()
        one_turn = spoken not in before.removeprefix(spoken if turn.reasoning else "")
        whole_turn = one_turn and all(name in written for name in names)
        if whole_turn and (beside or content == form.empty):
            return written, follows, _followed(template, messages, tools, whole)
    raise BadRowError(
        "chat template drops a function call, or writes it where no generation prompt leads to it"
    )


def _followed(
    template: ChatTemplate, messages: list[dict[str, Any]], tools: Tools, whole: str
) -> tuple[int, str]:
    """Return how the template goes on where a call has got its result.

    Returns:
        Characters at the end of `whole` that stand there only while it is the end; and what stands
        in their place once a result follows.
    """
    call = messages[-1]["tool_calls"][-1]
    name, link = call["function"]["name"], call.get("id", CALL_ID)
    result = {"role": "tool", "content": RESULT, "tool_call_id": link, "name": name}
    try:
        longer = template.render([*messages, result], tools, prompt=False)
    except BadRowError:
        return 0, ""
    common = common_length(whole, longer)
    if name in whole[common:] and name in longer[common:]:
        # They differ before the last call already (in thinking that is left out later).
        place, other = whole.find(name, common), longer.find(name, common)
        common = common_length(whole[place:], longer[other:])
        return len(whole) - place - common, longer[other + common :]
    return len(whole) - common, longer[common:]


def _call_end(
    template: ChatTemplate, written: str, name: str, followed: tuple[int, str]
) -> tuple[str, str]:
    """Split a calling turn into its calls and its end.

    The end is that of a turn in words, if it stands after the last call; or one of the model's ends
    among the tokens that stand there whether or not a result follows; or the marker of the next
    speaker, if that is one; or the last of those tokens.

    Args:
        template: that wrote it.
        written: the turn, and what may follow it.
        name: of the last function called.
        followed: see `_followed`.
    """
    spoken = template.end_of_words.strip()
    if (place := written.find(spoken, written.rfind(name))) >= 0:
        return written[:place], spoken
    changing, following = followed
    kept = written[: len(written) - changing]
    if template.special.sub("", written[len(kept) :]).strip():
        kept, following = written, ""  # what differs is no end (ids that are left out, say)
    found = list(template.special.finditer(kept))
    run: list[re.Match[str]] = []  # what stands at the end, nothing but special tokens
    for token in reversed(found):
        if kept[token.end() : run[-1].start() if run else len(kept)].strip():
            break
        run.append(token)
    if end := next((token for token in run if token[0] in template.ends), None):
        return kept[: end.start()], end[0]
    marker = template.special.search(following)
    if marker and marker[0] in template.ends:
        return kept.rstrip() + following[: marker.start()], marker[0]
    if found and not kept[found[-1].end() :].strip():
        return kept[: found[-1].start()], found[-1][0]
    return kept.rstrip(), spoken


def _without_head(template: ChatTemplate, prompt: str, calls: str, name: str) -> str:
    """Return calls without the speaker's marker and the thinking that a template puts before them.

    Raises:
        BadRowError: if they cannot be told apart.
    """
    markers = template.special.findall(prompt)
    head = calls[: calls.find(name)]
    if markers and markers[-1] in head:
        calls = calls[head.rfind(markers[-1]) + len(markers[-1]) :]
    calls = without_thinking(calls)
    if "think>" in calls[: calls.find(name)]:
        raise BadRowError("chat template writes thinking before a call otherwise than its prompt")
    return calls
