"""Turns of a conversation, as OpenAI or ShareGPT write them, in one form.

A turn has `role` and `content`. The assistant's may have `tool_calls`, `reasoning` (what it thought
before it said `content`) and `trained: False` (context alone); a tool's `tool_call_id` and `name`.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from nlirg.corpus.formats.values import NOTHING, as_content, as_text, from_json, kind
from nlirg.errors import BadRowError

Messages = list[dict[str, Any]]

# Names of who speaks; what a `function_call` says, the assistant says.
SPEAKERS = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "function_call": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
    "ipython": "tool",
}
OPENAI, SHAREGPT = ("role", "content"), ("from", "value")
REASONING = ("reasoning_content", "reasoning", "thinking")
WEIGHTS = ("weight", "loss", "train", "training")  # 0 or false: context alone
LINKS = ("tool_call_id", "name")  # what a tool's turn may say about the call it answers
CALLS = ("tool_calls", "function_call")
KNOWN = frozenset((*OPENAI, *SHAREGPT, *REASONING, *WEIGHTS, *LINKS, *CALLS))


def turn(role: str, content: str) -> dict[str, Any]:
    """A turn that says something and nothing else."""
    return {"role": role, "content": content}


def read_turns(turns: Sequence[Any], keys: tuple[str, str], notes: set[str]) -> Messages:
    """Read a list of turns.

    Args:
        turns: as they stand in the row.
        keys: who speaks and what is said, `OPENAI` or `SHAREGPT`; a turn without these that has
            the others is read by the others.
        notes: gets a line for every key that is not read; the same for every row.

    Raises:
        BadRowError: if a turn cannot be used; it is named by its number, from 1.
    """
    return [_turn(f"message {number}", each, keys, notes) for number, each in _numbered(turns)]


def link_calls(messages: Messages) -> Messages:
    """Number the calls that have no id, and let tools' turns answer them in order.

    Some templates print the ids, and refuse fewer than nine characters.
    """
    count = 0
    unanswered: list[str] = []
    for message in messages:
        for call in message.get("tool_calls", ()):
            call.setdefault("id", f"call{count:05d}")
            unanswered.append(call["id"])
            count += 1
        if message["role"] == "tool" and unanswered:
            answered = message.setdefault("tool_call_id", unanswered[0])
            unanswered = [call for call in unanswered if call != answered]
    return messages


def without_untrained_end(messages: Messages) -> Messages:
    """The turns up to the last answer that is trained: those after it are context of nothing.

    Raises:
        BadRowError: if every answer is context.
    """
    if all(message.get("trained", True) for message in messages):
        return messages
    if messages[-1]["role"] != "assistant":
        raise BadRowError(f"messages end on the {messages[-1]['role']}")
    trained = [
        place
        for place, message in enumerate(messages)
        if message["role"] == "assistant" and message.get("trained", True)
    ]
    if not trained:
        raise BadRowError(f"every answer is context ({', '.join(WEIGHTS)}): nothing is trained")
    return messages[: trained[-1] + 1]


def _numbered(turns: Sequence[Any]) -> list[tuple[int, Mapping[str, Any]]]:
    for number, each in enumerate(turns, start=1):
        if not isinstance(each, dict):
            raise BadRowError(f"message {number} is {kind(each)}, not an object")
    return list(enumerate(turns, start=1))


def _turn(
    place: str, message: Mapping[str, Any], keys: tuple[str, str], notes: set[str]
) -> dict[str, Any]:
    who, what = (_present(message, *pair) for pair in zip(keys, _other(keys), strict=True))
    speaker, content = message.get(who), message.get(what)
    if not isinstance(speaker, str) or speaker not in SPEAKERS:
        raise BadRowError(f"{place}: {who} {speaker!r} is not one of {', '.join(SPEAKERS)}")
    role = SPEAKERS[speaker]
    calls = _given_calls(place, message, role)
    if speaker == "function_call":
        if calls:
            raise BadRowError(f"{place}: two kinds of function calls")
        calls = _calls(
            place, from_json(as_text(content, f"{place}: {what}"), f"{place}: {speaker}")
        )
        content = None
    if what not in message and not calls:
        raise BadRowError(f"{place} has no {what}; its keys are {', '.join(map(str, message))}")
    said = "" if content is None and calls else as_content(content, f"{place}: {what}")
    read = turn(role, said)
    if calls:
        read["tool_calls"] = calls
    if role == "assistant" and (reasoning := _reasoning(place, message)):
        read["reasoning"] = reasoning
    if not _trained(place, message, role, notes):
        read["trained"] = False
    if role == "tool":
        read |= _links(message)
    _note_unread(message, role, (who, what), notes)
    return read


def _other(keys: tuple[str, str]) -> tuple[str, str]:
    return SHAREGPT if keys == OPENAI else OPENAI


def _present(message: Mapping[str, Any], key: str, other: str) -> str:
    """The key a turn has of two that mean the same."""
    return other if message.get(key) is None and message.get(other) is not None else key


def _note_unread(
    message: Mapping[str, Any], role: str, used: tuple[str, str], notes: set[str]
) -> None:
    for key, value in message.items():
        if key in used or value in NOTHING:
            continue
        if key not in KNOWN:
            near = difflib.get_close_matches(str(key), KNOWN, n=1, cutoff=0.7)
            meant = f" (did you mean {near[0]}?)" if near else ""
            notes.add(f"message key {str(key)!r} is not read{meant}")
        elif key in REASONING and role != "assistant":
            notes.add(f"message key {key!r} of a turn of the {role} is not read")
        elif key in (*OPENAI, *SHAREGPT) and value not in [message.get(other) for other in used]:
            notes.add(f"message key {key!r} is not read beside {used[0]!r} and {used[1]!r}")


def _reasoning(place: str, message: Mapping[str, Any]) -> str:
    """What the assistant thought before it answered; "" if the turn does not say."""
    given = {
        key: text
        for key in REASONING
        if message.get(key) is not None
        and (text := as_content(message[key], f"{place}: {key}")).strip()
    }
    if len(set(given.values())) > 1:
        raise BadRowError(f"{place}: {' and '.join(given)} differ")
    return next(iter(given.values()), "")


def _trained(place: str, message: Mapping[str, Any], role: str, notes: set[str]) -> bool:
    """Whether the row lets a turn be trained; of turns that never are it is noted."""
    given = {key: message[key] for key in WEIGHTS if message.get(key) is not None}
    for key, value in given.items():
        if not isinstance(value, bool | int | float) or value not in (0, 1):
            raise BadRowError(
                f"{place}: {key} is {value!r}, and a turn is trained (1, true) or not (0, false)"
            )
        if value and role != "assistant":
            notes.add(
                f"message key {key!r}: a turn of the {role} is not trained, only the "
                "assistant's turns are"
            )
    if role != "assistant":
        return True
    if len({bool(value) for value in given.values()}) > 1:
        told = ", ".join(f"{key} is {value!r}" for key, value in given.items())
        raise BadRowError(f"{place}: {told}: trained or not?")
    return all(given.values())


def check_weights(row: Mapping[str, Any], notes: set[str]) -> None:
    """Hold what a row says of itself as a whole, not of a turn, against its being trained.

    Raises:
        BadRowError: if it says that nothing of it is.
    """
    for key in WEIGHTS:
        value = row.get(key)
        if value is False or (key == "weight" and value == 0):
            raise BadRowError(f"the row's own {key} is {value!r}: nothing of it is trained")
        if value not in (None, 1):
            notes.add(f"row key {key!r} is not read")


def _links(message: Mapping[str, Any]) -> dict[str, str]:
    """What a tool's turn says about the call it answers; a number stands for its digits."""
    return {
        key: str(message[key])
        for key in LINKS
        if isinstance(message.get(key), str) or type(message.get(key)) is int
    }


def _given_calls(place: str, message: Mapping[str, Any], role: str) -> list[dict[str, Any]]:
    """The functions a turn calls; `function_call` is OpenAI's old way to call one."""
    given = [key for key in CALLS if message.get(key)]
    if not given:
        return []
    if role != "assistant":
        raise BadRowError(f"{place}: {given[0]} in a turn of the {role}")
    if len(given) > 1:
        raise BadRowError(f"{place}: two kinds of function calls")
    return _calls(place, message[given[0]])


def _calls(place: str, given: Any) -> list[dict[str, Any]]:
    """Calls of one turn in one form, whether or not they are wrapped in `function`."""
    calls = []
    for call in given if isinstance(given, list) else [given]:
        function = call.get("function", call) if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise BadRowError(f"{place}: a function call is an object with name")
        arguments = function.get("arguments", {})
        if isinstance(arguments, str):
            arguments = from_json(arguments, f"{place}: arguments of {function['name']!r}")
        if not isinstance(arguments, dict):
            raise BadRowError(
                f"{place}: arguments of {function['name']!r} are {kind(arguments)}, not an object"
            )
        named = isinstance(call.get("id"), str) or type(call.get("id")) is int
        link = {"id": str(call["id"])} if named else {}
        called = {"name": function["name"], "arguments": arguments}
        calls.append({**link, "type": "function", "function": called})
    return calls
