"""What of a conversation is trained: every answer after the text from which it is generated.

The text before an answer is the template's own, of the turns before it and with a generation
prompt, whatever it makes of these turns later. The answer is what the template writes after that
text. Where it writes something else there once the answer is known (it leaves out thinking that its
own prompt has begun, or prints a system turn only while a question is open), the answer is its own
text and the end of its turn.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

from nlirg.chat.calls import calling_answer
from nlirg.chat.conversation import DROPS_SYSTEM, Conversation, adapt, trained_turns
from nlirg.chat.following import AnswerText, end_of, written_after
from nlirg.chat.template import ChatTemplate, Messages, Tools
from nlirg.chat.thinking import CLOSED, goes_on, own_thinking
from nlirg.errors import BadRowError

MARK = "zqmarkqz"  # stands for an answer, to see what a template writes around it


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
            option = template.thinking_option
            raise BadRowError(
                "the answer has reasoning, and the generation prompt has ended the thinking: "
                + (f"set encode.template_options: {{{option}: true}}, or " if option else "")
                + "leave out the reasoning"
            )
        write = calling_answer if turn.calls else _spoken_answer
        answer = write(template, conversation, number, prompt)
        first = conversation.turns[0]
        if first.role == "system" and not end_of(first.message["content"], prompt):
            answer = replace(answer, notes=(*answer.notes, DROPS_SYSTEM))
        yield answer


def _prompt(template: ChatTemplate, conversation: Conversation, stop: int) -> str:
    """Render the turns before `stop` and a generation prompt, once nothing proves missing."""
    text = template.render(conversation.messages(stop), conversation.tools, prompt=True)
    for turn in conversation.turns[:stop]:
        if turn.role == "assistant" or (turn.role == "system" and template.has_system):
            continue  # what a template says of them later is its own
        content = turn.message["content"]
        if content.strip() and not end_of(content, text):
            raise BadRowError(f"chat template drops a {turn.role} message")
    for tool in conversation.tools:
        if (name := tool["function"]["name"]) not in text:
            raise BadRowError(f"chat template drops the tool {name!r}")
    return text


def _spoken_answer(
    template: ChatTemplate, conversation: Conversation, number: int, prompt: str
) -> AnswerText:
    """Return an answer in words."""
    turn = conversation.turns[number]
    if not turn.content.strip():
        raise BadRowError("answer is empty")
    before, content, after = _around(template, conversation, number, prompt)
    end = template.end_in(after) or template.end_of_words
    lead, follows = written_after(template, conversation, number, prompt, before)
    if not goes_on(prompt, lead, follows, turn.reasoning):
        lead = own_thinking(prompt, turn.reasoning)
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
