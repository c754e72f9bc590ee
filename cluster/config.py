"""Settings of the machine side: the recipe's `cluster` section."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from nlirg.section import Section


class ClusterConfig(Section):
    """Where the work runs.

    `address` is a Ray cluster ("auto" = the one this process runs in); without it a local one is
    started for the run. The other keys bound what the stages take of it: actors that score,
    seconds that training may wait for its workers to start, seconds without any progress after
    which scoring, encoding and generation give up.
    """

    address: str | None = None
    score_actors: Annotated[int, Field(ge=1)] | None = None
    start_timeout_s: Annotated[float, Field(gt=0)] = 600.0
    stall_timeout_s: Annotated[float, Field(gt=0)] = 600.0
