"""The two ways input can be wrong: it stops the run, or it is set aside."""

from __future__ import annotations


class InputError(Exception):
    """Something the user gave cannot be used; the message is one line and says what to do.

    The command line prints the message alone and exits with code 2.
    """


class BadRowError(Exception):
    """One row of a corpus cannot be used: it is quarantined with this reason, the run goes on."""
