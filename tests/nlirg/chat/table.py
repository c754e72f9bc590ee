"""Which conversations published templates take: `python -m tests.nlirg.chat.table` writes it."""

import itertools
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

from nlirg.chat import conversation
from nlirg.chat.encoder import ChatEncoder, EncodedSample
from nlirg.errors import BadRowError
from nlirg.labels import IGNORE
from tests.nlirg.chat.published import published, tokenizer_with

SYSTEM = {"role": "system", "content": "Be brief, please."}
ASKED = [{"role": "user", "content": f"Where is part {n}?"} for n in range(3)]
SAID = [{"role": "assistant", "content": f"It lies on shelf {n}."} for n in range(3)]
REASONS = ["The list begins with it.", "It is second.", "The last one."]
TOOL = {
    "type": "function",
    "function": {
        "name": "shelf_of",
        "description": "Tells on which shelf a part lies.",
        "parameters": {"type": "object", "properties": {"part": {"type": "string"}}},
    },
}
CALL = {"name": "shelf_of", "arguments": {"part": "lid"}}
CALLED = {
    "role": "assistant",
    "content": "",
    "tool_calls": [{"id": "call00000", "type": "function", "function": CALL}],
}
RESULT = {"role": "tool", "content": '{"shelf": 7}', "tool_call_id": "call00000"}


def turns(*parts: dict[str, Any]) -> list[dict[str, Any]]:
    return deepcopy(list(parts))


def thought(number: int) -> dict[str, Any]:
    return SAID[number] | {"reasoning": REASONS[number]}


CONVERSATIONS: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]]]] = {
    "no system": (turns(ASKED[0], SAID[0], ASKED[1], SAID[1], ASKED[2], SAID[2]), []),
    "system": (turns(SYSTEM, ASKED[0], SAID[0], ASKED[1], SAID[1], ASKED[2], SAID[2]), []),
    "tools": (turns(SYSTEM, ASKED[0], CALLED, RESULT, SAID[0], ASKED[1], SAID[1]), [TOOL]),
    "thinking": (turns(SYSTEM, ASKED[0], thought(0), ASKED[1], thought(1)), []),
}
# Where a question may be given at the end of a turn: GLM's own settings say so.
STOPS = {"glm4moe": ("<|user|>", "<|observation|>")}


class Trained(NamedTuple):
    """One trained answer: the turn, the sample it is in, where it begins, its text."""

    turn: int
    sample: EncodedSample
    start: int
    text: str


def encoder(name: str) -> ChatEncoder:
    tokenizer = tokenizer_with(published()[name])
    stops = [tokenizer.convert_tokens_to_ids(token) for token in STOPS.get(name, ())]
    return ChatEncoder(tokenizer, stops=stops)


def trained_answers(
    chat: ChatEncoder, samples: list[EncodedSample], turns: list[int]
) -> Iterator[Trained]:
    """Every stretch of trained tokens; there are as many as answers."""
    left = iter(turns)
    for sample in samples:
        labels = [IGNORE, *sample.labels, IGNORE]
        borders = [
            n
            for n, (a, b) in enumerate(itertools.pairwise(labels))
            if (a == IGNORE) != (b == IGNORE)
        ]
        for start, stop in zip(borders[::2], borders[1::2], strict=True):
            text = chat.tokenizer.decode(sample.input_ids[start:stop])
            yield Trained(next(left), sample, start, str(text))
    assert not list(left), "every answer is trained"


def cell(name: str, kind: str) -> str:
    """Samples that a conversation becomes with every answer trained and with the last, or why none.

    They are checked in `test_published`.
    """
    messages, tools = CONVERSATIONS[kind]
    try:
        found = [
            encoder(name).encode(messages, tools, loss_on=loss_on) for loss_on in ("all", "last")
        ]
    except BadRowError as error:
        return str(error).partition(":")[0]
    text = " and ".join(AS_TEXT[note] for note in found[0].notes)
    return " / ".join(str(len(chat.samples)) for chat in found) + (text and f" ({text} as text)")


AS_TEXT = {
    conversation.LISTS_TOOLS: "tools",
    conversation.WRITES_CALLS: "calls",
    conversation.WRITES_RESULTS: "results",
    conversation.MERGES_SYSTEM: "system",
    conversation.WRITES_REASONING: "thinking",
}


def markdown() -> str:
    """The table, a template a row."""
    lines = [f"| template | {' | '.join(CONVERSATIONS)} |", "|---" * (1 + len(CONVERSATIONS)) + "|"]
    for name in published():
        lines.append(f"| {name} | {' | '.join(cell(name, kind) for kind in CONVERSATIONS)} |")
    return "\n".join(lines) + "\n"


HEAD = """# Which conversations published templates take

Templates of the packages trl and vllm as installed. A cell: training samples of one conversation
with every answer trained / with the last; what the template does not know and is therefore said as
text; or why the conversation is refused. That each answer is trained after what it is generated
from, and nothing else is, `test_published.py` holds for every cell. This file is written by
`python -m tests.nlirg.chat.table`.

"""
FILE = Path(__file__).parent / "TEMPLATES.md"

if __name__ == "__main__":
    FILE.write_text(HEAD + markdown(), encoding="utf-8")
