"""What of a conversation is trained: every answer after the text from which it is generated.

The text before an answer is the template's own, of the turns before it and with a generation
prompt, whatever it makes of these turns later. The answer is what the template writes after that
text. Where it writes something else there once the answer is known (it leaves out thinking that its
own prompt has begun, or prints a system turn only while a question is open), the answer is its own
text and the end of its turn.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from os.path import commonprefix
from typing import Any, Literal

from nlirg.chat.conversation import (
    DROPS_SYSTEM,
    OPENED,
    WRITES_BESIDE,
    Conversation,
    adapt,
    thinking_text,
    trained_turns,
)
from nlirg.chat.template import (
    CALL_ID,
    RESULT,
    CallForm,
    ChatTemplate,
    Messages,
    Tools,
)
from nlirg.errors import BadRowError

MARK = "zqmarkqz"  # stands for an answer, to see what a template writes around it
CLOSED = re.compile(r"(<think>\s*)?</think>\s*\Z")  # one that has ended it
THOUGHT_BEFORE = re.compile(r"\s*(<think>((?!<think>).)*?</think>|</?think>)\s*", re.DOTALL)


@dataclass(frozen=True)
class AnswerText:
    """One answer to train.

    Attributes:
        prompt: what the template renders before it, with the generation prompt.
        lead: what the template writes before the answer's own words (thinking, say).
        content: its own words, or the calls it makes.
        end: the end of the turn.
        notes: what the template does not know of the turn.
    """

    prompt: str
    lead: str
    content: str
    end: str
    notes: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """What is trained."""
        return self.lead + self.content + self.end


def open_prompt(template: ChatTemplate, messages: Messages, tools: Tools) -> str:
    """Render a conversation that the model is to answer, with the generation prompt.

    Raises:
        BadRowError: if there is nothing to answer, or the template cannot be used for it.
    """
    if not messages or messages[-1]["role"] == "assistant":
        raise BadRowError("messages end on the assistant: nothing is left to answer")
    conversation = adapt(template, messages, tools)
    return _prompt(template, conversation, len(conversation.turns))


def find_answers(
    template: ChatTemplate, messages: Messages, tools: Tools, loss_on: Literal["all", "last"]
) -> tuple[list[AnswerText], tuple[str, ...]]:
    """Return the answers to train, in order, and what the template does not know of the row.

    Raises:
        BadRowError: if the conversation does not end on an answer, one is empty, or the template
            cannot be used for it.
    """
    if len(messages) < 2 or messages[-1]["role"] != "assistant":
        raise BadRowError("messages do not end on the assistant")
    trained = trained_turns(messages, loss_on)
    if not trained:
        raise BadRowError("no answer is to be trained")
    conversation = adapt(template, messages, tools, trained)
    answers = list(_answers(template, conversation))
    notes = [*conversation.notes, *(note for answer in answers for note in answer.notes)]
    return answers, tuple(dict.fromkeys(notes))


def _answers(template: ChatTemplate, conversation: Conversation) -> Iterator[AnswerText]:
    for number, turn in enumerate(conversation.turns):
        if not turn.trained:
            continue
        prompt = _prompt(template, conversation, number)
        if conversation.turns[number - 1].role == "assistant":
            before = conversation.messages(number)
            if prompt == template.render(before, conversation.tools, prompt=False):
                raise BadRowError(
                    "an answer follows an answer, and chat template begins no turn after one"
                )
        if turn.reasoning and CLOSED.search(prompt):
            raise BadRowError(
                "the answer has reasoning, and the generation prompt has ended the thinking: leave "
                "it out, or set the chat template's option for thinking (encode.template_options)"
            )
        answer = (_calling if turn.calls else _speaking)(template, conversation, number, prompt)
        first = conversation.turns[0]
        if first.role == "system" and not _end_of(first.message["content"], prompt):
            answer = replace(answer, notes=(*answer.notes, DROPS_SYSTEM))
        yield answer


def _prompt(template: ChatTemplate, conversation: Conversation, stop: int) -> str:
    """Render the turns before `stop` and a generation prompt, once nothing proves missing."""
    text = template.render(conversation.messages(stop), conversation.tools, prompt=True)
    for turn in conversation.turns[:stop]:
        if turn.role == "assistant" or (turn.role == "system" and template.has_system):
            continue  # what a template says of them later is its own
        content = turn.message["content"]
        if content.strip() and not _end_of(content, text):
            raise BadRowError(f"chat template drops a {turn.role} message")
    for tool in conversation.tools:
        if (name := tool["function"]["name"]) not in text:
            raise BadRowError(f"chat template drops the tool {name!r}")
    return text


def _speaking(
    template: ChatTemplate, conversation: Conversation, number: int, prompt: str
) -> AnswerText:
    """Return an answer in words."""
    turn = conversation.turns[number]
    if not turn.content.strip():
        raise BadRowError("answer is empty")
    before, content, after = _around(template, conversation, number, prompt)
    end = template.end_in(after) or template.end_of_words
    lead, follows = _written(template, conversation, number, prompt, before)
    if not _goes_on(prompt, lead, follows, turn.reasoning):
        lead = _own_thinking(prompt, turn.reasoning)
    return AnswerText(prompt, lead, content, end)


def _around(
    template: ChatTemplate, conversation: Conversation, number: int, prompt: str
) -> tuple[str, str, str]:
    """Return what the template writes before an answer, the answer as it writes it, and after.

    A template may strip white space around an answer, nothing else.
    """
    turn = conversation.turns[number]
    messages = conversation.messages(number + 1)
    whole = template.render(messages, conversation.tools, prompt=False)
    words = turn.content.strip()
    begin = len(prompt) if whole.startswith(prompt) else 0
    if begin and whole.count(words, begin) == 1:
        place = whole.index(words, begin)
        return whole[:place], words, whole[place + len(words) :]
    # Words that stand elsewhere, too ("a" in "assistant"): the template is asked where it puts any.
    marked = turn.message["content"].removesuffix(turn.content) + MARK
    messages = [*messages[:-1], {**turn.message, "content": marked}]
    before, mark, after = template.render(messages, conversation.tools, prompt=False).rpartition(
        MARK
    )
    stop = len(whole) - len(after)
    fits = mark and whole.startswith(before) and whole.endswith(after) and len(before) <= stop
    if not fits or whole[len(before) : stop].strip() != words:
        raise BadRowError("chat template rewrites the answer")
    place = whole.index(words, len(before))
    return whole[:place], words, whole[place + len(words) :]


def _calling(
    template: ChatTemplate, conversation: Conversation, number: int, prompt: str
) -> AnswerText:
    """Return an answer that calls functions."""
    turn = conversation.turns[number]
    names = [call["function"]["name"] for call in turn.calls]
    written, follows, followed = _called(template, conversation, number, prompt)
    calls, end = _call_end(template, written, names[-1], followed)
    lead, notes = "", list[str]()
    if not _goes_on(prompt, calls[: calls.find(names[0])], follows, turn.reasoning):
        calls = _without_thinking(template, prompt, calls, names[0])
        lead = _own_thinking(prompt, turn.reasoning)
        calls = calls.lstrip() if lead else calls
    if not _holds(calls, turn.content):
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
        written, follows = _written(template, conversation, number, prompt, whole)
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
    common = _common(whole, longer)
    if name in whole[common:] and name in longer[common:]:
        # They differ before the last call already (in thinking that is left out later).
        place, other = whole.find(name, common), longer.find(name, common)
        common = _common(whole[place:], longer[other:])
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


def _written(
    template: ChatTemplate, conversation: Conversation, number: int, prompt: str, text: str
) -> tuple[str, bool]:
    """Return what a text says after the turns before an answer.

    Args:
        template: that rendered it.
        conversation: of the answer.
        number: the answer's turn.
        prompt: from which the answer is generated.
        text: the conversation up to and with the answer, or the beginning of that.

    Returns:
        The end of the text, and whether it is what follows the generation prompt. If not, the
        template writes an answer without what its prompt adds (thinking, say), or ("") so that
        its prompt cannot be found.
    """
    if text.startswith(prompt):
        return text[len(prompt) :], True
    asked = conversation.turns[number - 1].message["content"] or ""
    begun, tail = _end_of(asked, text), prompt[_end_of(asked, prompt) :]
    if tail and text.startswith(tail, begun):
        return text[begun + len(tail) :], True
    for begin in dict.fromkeys([tail, CLOSED.sub("", OPENED.sub("", tail))]):
        if begin.strip() and text.startswith(begin.rstrip(), begun):
            return text[begun + len(begin.rstrip()) :].lstrip(), False
    before = template.render(conversation.messages(number), conversation.tools, prompt=False)
    if text.startswith(before):
        shared = text[len(before) :][: _common(text[len(before) :], prompt[len(before) :])]
        # Not within a word: "<think>" and "<tool_call>" share two letters.
        borders = [0, *(token.end() for token in template.special.finditer(shared))]
        borders += [place for place, letter in enumerate(shared, 1) if letter.isspace()]
        return text[len(before) + max(borders) :], False
    # What follows a result may depend on whether it is the last turn (Hermes').
    begin = prompt.removeprefix(before) if prompt.startswith(before) else ""
    between, found, after = text[begun:].partition(begin) if begin else ("", "", "")
    words = "".join(template.special.sub("", between).split())
    return (after, False) if found and words in "".join(tail.split()) else ("", False)


def _common(one: str, other: str) -> int:
    """Return how many characters two texts begin with alike."""
    return len(commonprefix([one, other]))  # noqa: RUF071 - these are no paths


def _end_of(content: str, text: str) -> int:
    """Return where a turn's content ends in a text; 0 if it does not stand there."""
    content = content.strip()
    escaped = json.dumps(content, ensure_ascii=False)[1:-1]  # as some render tools' turns
    ends = [text.rfind(form) + len(form) for form in (content, escaped) if form and form in text]
    return max(ends, default=0)


def _goes_on(prompt: str, lead: str, follows: bool, reasoning: str) -> bool:
    """Say whether what a template writes before an answer goes on with its generation prompt.

    It holds the reasoning, and ends the thinking once if it is begun there or in the prompt.
    """
    begun, ended = lead.count("<think>"), lead.count("</think>")
    if OPENED.search(prompt):
        tags = (begun, ended) == (0, 1)
        follows = follows or lead.lstrip().startswith(reasoning.strip() or "</think>")
    else:
        tags = begun == ended <= (0 if CLOSED.search(prompt) else 1)
    return follows and tags and _holds(lead, reasoning)


def _without_thinking(template: ChatTemplate, prompt: str, calls: str, name: str) -> str:
    """Return calls without the speaker's marker and the thinking that a template puts before them.

    Raises:
        BadRowError: if they cannot be told apart.
    """
    markers = template.special.findall(prompt)
    head = calls[: calls.find(name)]
    if markers and markers[-1] in head:
        calls = calls[head.rfind(markers[-1]) + len(markers[-1]) :]
    while found := THOUGHT_BEFORE.match(calls):
        calls = calls[found.end() :]
    if "think>" in calls[: calls.find(name)]:
        raise BadRowError("chat template writes thinking before a call otherwise than its prompt")
    return calls


def _own_thinking(prompt: str, reasoning: str) -> str:
    """Return an answer's thinking as text that follows a prompt.

    A prompt that has begun the thinking is gone on with; if there is none, it is ended at once, as
    templates do that write both (Qwen3.5's): what stands within is no answer to who reads it.
    """
    if OPENED.search(prompt):
        return thinking_text(reasoning).removeprefix("<think>\n")
    return thinking_text(reasoning) if reasoning else ""


def _holds(text: str, words: str) -> bool:
    """Say whether words stand in a text, whatever was done to white space."""
    return "".join(words.split()) in "".join(text.split())
