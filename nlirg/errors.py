"""The two ways input can be wrong, and what others' errors say in one line."""

from __future__ import annotations

# JSON can say it, and no tokenizer, file or hash can take it.
HALF_SURROGATE = "text holds half a surrogate pair, which is no character"


class InputError(Exception):
    """Something the user gave cannot be used; the message is one line and says what to do.

    The command line prints the message alone and exits with code 2.
    """


class BadRowError(Exception):
    """One row of a corpus cannot be used: it is quarantined with this reason, the run goes on."""


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says; if it says nothing, the name of its class."""
    lines = (line.strip() for line in str(error).splitlines())
    return next(filter(None, lines), type(error).__name__)
