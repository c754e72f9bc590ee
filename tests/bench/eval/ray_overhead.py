"""What Ray adds to generation: the same engine in an actor and in a plain process."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from eval.generation.generate import Completion, EngineSpec, Request
from tests.bench.eval.jobs import Job, run_job
from tests.bench.eval.world import demo_cases, demo_requests, demo_spec
from tests.bench.measure import Comparison, user_seconds

GOAL = 1.10


class Cost(NamedTuple):
    """CPU and wall seconds of answering everything once."""

    cpu: float
    wall: float


class Metered:
    """An engine that notes in a file what its process has used so far, after every call."""

    def __init__(self, spec: EngineSpec, note: Path) -> None:
        from eval.generation.engines import build_engine

        self._engine, self._note = build_engine(spec), note
        self._cpu, self._wall = user_seconds(), time.perf_counter()

    def generate(self, requests: Sequence[Request], adapter: str | None) -> list[Completion]:
        """Answer in order."""
        answers = self._engine.generate(requests, adapter)
        used = Cost(user_seconds() - self._cpu, time.perf_counter() - self._wall)
        self._note.write_text(json.dumps(used))
        return answers


def in_actor(spec: EngineSpec, chunks: Sequence[tuple[Request, ...]], note: Path) -> Cost:
    """Answer in one actor of a connected cluster; the driver's CPU time counts too."""
    from eval.generation.actors import Chunk, Fleet, Group

    def build(spec: EngineSpec) -> Any:
        return Metered(spec, note)

    group = Group(spec, tuple(Chunk("base", None, chunk) for chunk in chunks))
    results = Fleet([group], 1, 1, 0, 300, build).run()
    next(results)  # start-up is no overhead of answering; the driver idles through it
    started = user_seconds()
    for _ in results:
        pass
    cpu, wall = json.loads(note.read_text())
    return Cost(cpu + user_seconds() - started, wall)


def bare(spec: EngineSpec, chunks: Sequence[tuple[Request, ...]]) -> Cost:
    """Answer in a new process without Ray, chunk by chunk too."""
    calls = tuple((None, chunk) for chunk in chunks)
    done = run_job(Job(spec, calls))
    return Cost(done.warm, done.wall)


def compare_ray(rounds: int, repeats: int = 4) -> list[Comparison]:
    """Cost in an actor over that in a plain process, in turns."""
    from cluster.config import ClusterConfig
    from cluster.session import connect, disconnect
    from eval.generation.engines import chunk_requests

    spec = demo_spec()
    asked = demo_requests(demo_cases()) * repeats
    size = chunk_requests(spec)
    chunks = [asked[i : i + size] for i in range(0, len(asked), size)]
    connect(ClusterConfig())
    try:
        with tempfile.TemporaryDirectory() as folder:
            note = Path(folder) / "cost.json"
            pairs = [(in_actor(spec, chunks, note), bare(spec, chunks)) for _ in range(rounds)]
    finally:
        disconnect()
    notes = ("", "means something only where nothing else runs")
    title = f"{len(asked)} prompts in {len(chunks)} chunks: in a Ray actor / in a plain process"
    return [
        Comparison.of(
            title,
            name,
            [ray[kind] / plain[kind] for ray, plain in pairs],
            goal=GOAL,
            at_least=False,
            note=notes[kind],
        )
        for kind, name in enumerate(("user CPU of actor and driver", "wall time of the engine"))
    ]
