"""An alarm of a training run; a line of its `alarms.jsonl`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Alarm:
    """Something wrong with a run.

    Attributes:
        kind: short name; a run raises each kind at most once.
        step: optimizer step at which it was noticed.
        message: what is wrong and what to do, in one line.
    """

    kind: str
    step: int
    message: str
