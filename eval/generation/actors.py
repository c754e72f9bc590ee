"""Engines as Ray actors: a few processes that answer chunks of requests; broken ones are replaced.

The only module of this folder that imports Ray.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

from eval.generation.engines import build_engine
from eval.generation.generate import Build, Completion, EngineSpec, Request
from eval.generation.vllm_engine import engine_environment
from nlirg.errors import InputError


@dataclass(frozen=True)
class Chunk:
    """Requests of one variant that are answered by one call."""

    variant: str
    adapter: str | None
    requests: tuple[Request, ...]


@dataclass(frozen=True)
class Group:
    """Chunks that engines of one kind answer."""

    spec: EngineSpec
    chunks: tuple[Chunk, ...]


class EngineActor:
    """One process with one engine."""

    def __init__(self, spec: EngineSpec, build: Build) -> None:
        self._engine = build(spec)

    def generate(self, chunk: Chunk) -> list[Completion]:
        """Answer a chunk."""
        return self._engine.generate(chunk.requests, chunk.adapter)


@dataclass(frozen=True)
class _Call:
    """A chunk being answered."""

    actor: Any
    group: int
    chunk: Chunk


class Fleet:
    """Runs engines of several groups, at most `engines` at once.

    Every engine takes the next chunk of its group when it is ready. One that fails, whatever the
    reason, is ended with its process and its chunk tried once more in a fresh one.

    Attributes:
        replaced: engines that failed and were replaced so far.
    """

    def __init__(
        self,
        groups: Sequence[Group],
        engines: int,
        num_cpus: float,
        num_gpus: float,
        stall_timeout_s: float,
        build: Build = build_engine,
    ) -> None:
        self.replaced = 0
        self._specs = [group.spec for group in groups]
        self._waiting = [deque(group.chunks) for group in groups]
        self._engines = engines
        self._resources = {"num_cpus": num_cpus, "num_gpus": num_gpus}
        self._stall_timeout_s = stall_timeout_s
        self._build = build
        self._calls: dict[Any, _Call] = {}
        self._failed: set[Chunk] = set()

    def run(self) -> Generator[tuple[Chunk, list[Completion]], None, None]:
        """Yield every chunk with its answers, in the order in which they are ready.

        Raises:
            InputError: if a chunk failed twice, or no engine answered within the stall timeout.
        """
        import ray

        try:
            self._start_engines()
            while self._calls:
                ready, _ = ray.wait(list(self._calls), timeout=self._stall_timeout_s)
                if not ready:
                    raise InputError(
                        f"no engine answered within {self._stall_timeout_s:g} s; if the model is "
                        "that slow, raise cluster.stall_timeout_s"
                    )
                call = self._calls.pop(ready[0])
                try:
                    completions = ray.get(ready[0])
                except Exception as error:  # whatever it was, the engine is not to be trusted
                    self._replace(call, error)
                    continue
                self._next(call.actor, call.group)
                self._start_engines()
                yield call.chunk, completions
        finally:
            for call in self._calls.values():
                ray.kill(call.actor)

    def _start_engines(self) -> None:
        """Start engines while there is room, for the group with most to do per engine."""
        import ray

        while len(self._calls) < self._engines and (group := self._neediest()) is not None:
            spec = self._specs[group]
            remote: Any = ray.remote(EngineActor)
            actor = remote.options(
                **self._resources,
                max_restarts=0,
                # A Tune trial's own room is 0.01 CPU, and what it starts would have to fit in it.
                scheduling_strategy="DEFAULT",
                runtime_env={"env_vars": engine_environment(spec.device)},
            ).remote(spec, self._build)
            self._next(actor, group)

    def _neediest(self) -> int | None:
        """The group that most wants a further engine; None if no group does.

        Starting an engine takes longer than one chunk, so a second one is for more than that.
        """
        needs = {}
        for group, waiting in enumerate(self._waiting):
            engines = sum(call.group == group for call in self._calls.values())
            if len(waiting) > min(engines, 1):
                needs[group] = len(waiting) / (engines + 1)
        return max(needs, key=needs.__getitem__, default=None)

    def _next(self, actor: Any, group: int) -> None:
        """Give an engine its next chunk, or end it when nothing waits."""
        import ray

        if not self._waiting[group]:
            ray.kill(actor)
            return
        chunk = self._waiting[group].popleft()
        self._calls[actor.generate.remote(chunk)] = _Call(actor, group, chunk)

    def _replace(self, call: _Call, error: Exception) -> None:
        """End a failed engine and start one for its chunk.

        Raises:
            InputError: if the chunk failed before.
        """
        import ray

        ray.kill(call.actor)
        if call.chunk in self._failed:
            raise InputError(
                f"{call.chunk.variant}: two engines failed on the same {len(call.chunk.requests)} "
                f"prompts; the second said: {_reason(error)}"
            ) from error
        self.replaced += 1
        self._failed.add(call.chunk)
        self._waiting[call.group].appendleft(call.chunk)
        self._start_engines()


def _reason(error: Exception) -> str:
    """One line for what went wrong in an actor."""
    cause = getattr(error, "cause", None) or error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return f"{type(cause).__name__}: {lines[-1] if lines else ''}"
