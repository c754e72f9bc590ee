"""The two ways input can be wrong: it stops the run, or it is set aside."""

from __future__ import annotations

# JSON can say it, and no tokenizer, file or hash can take it.
HALF_SURROGATE = "text holds half a surrogate pair, which is no character"


class InputError(Exception):
    """Something the user gave cannot be used; the message is one line and says what to do.

    The command line prints the message alone and exits with code 2.
    """


class BadRowError(Exception):
    """One row of a corpus cannot be used: it is quarantined with this reason, the run goes on."""
