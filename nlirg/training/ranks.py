"""Agreement between the ranks of a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch.distributed as dist

from nlirg.errors import InputError

T = TypeVar("T")


def together(action: Callable[[], T]) -> T:
    """Do something on every rank; if it raises `InputError` on one, raise it on all.

    Otherwise the others would wait in their next collective for the one that gave up. Every rank
    must call this; a process that belongs to no group is a rank alone.
    """
    mine = None
    try:
        result = action()
    except InputError as error:
        mine = str(error)
    messages: list[str | None] = [mine]
    if dist.is_initialized():
        messages = [None] * dist.get_world_size()
        dist.all_gather_object(messages, mine)
    for message in messages:
        if message is not None:
            raise InputError(message)
    return result
