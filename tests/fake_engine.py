"""The engine of tests without a model: it answers at once what the test says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from eval.generation.actors import Chunk, Group
from eval.generation.generate import Completion, Request, ranked

Answer = Callable[[Request, str | None], str]


def name_and_adapter(request: Request, adapter: str | None) -> str:
    """An answer that tells case and variant."""
    return f"{request.key[1]} {adapter}"


def first_without_adapter(request: Request, adapter: str | None) -> tuple[float, ...]:
    """The base model finds the first option likeliest, a tuned one the last."""
    ranks = range(len(request.options))
    order = ranks if adapter is None else reversed(ranks)
    return tuple(-float(i + 1) * len(ids) for i, ids in zip(order, request.options, strict=True))


class FakeEngine:
    """A `Generator` that ends every answer, two tokens long, by itself; it ranks options, too."""

    def __init__(self, answer: Answer = name_and_adapter) -> None:
        self._answer = answer

    def generate(self, requests: Sequence[Request], adapter: str | None) -> list[Completion]:
        """Answer in order."""
        return [
            ranked(first_without_adapter(one, adapter))
            if one.options
            else Completion(self._answer(one, adapter), (1, 2), "stop")
            for one in requests
        ]


class FakeFleet:
    """Stands where a test has `eval.generation.actors.Fleet`: one fake engine in this process.

    Attributes:
        answer: what the engine says.
        asked: variant, suite and case of every request so far.
        stop_after: chunks after which the process is "interrupted".
    """

    def __init__(self) -> None:
        self.answer: Answer = name_and_adapter
        self.asked: list[tuple[str, str, str]] = []
        self.stop_after = 10**6
        self.replaced = 0
        self._groups: Sequence[Group] = ()

    def __call__(self, groups: Sequence[Group], *resources: float) -> FakeFleet:
        """What constructing a `Fleet` does."""
        self._groups = groups
        return self

    def run(self) -> Iterator[tuple[Chunk, list[Completion]]]:
        """Answer chunk by chunk."""
        engine = FakeEngine(self.answer)
        for chunk in [chunk for group in self._groups for chunk in group.chunks]:
            if self.stop_after == 0:
                raise KeyboardInterrupt
            self.stop_after -= 1
            self.asked += [(chunk.variant, *request.key) for request in chunk.requests]
            yield chunk, engine.generate(chunk.requests, chunk.adapter)
