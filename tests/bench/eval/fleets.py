"""Base and adapters in one engine, in one engine each, and with transformers' `generate`."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tests.bench.eval.jobs import Call, Done, Job, Tokens, run_job
from tests.bench.eval.world import demo_cases, demo_requests, demo_spec, make_adapters
from tests.bench.measure import Comparison, Costs

ADAPTERS, PROMPTS = 8, 200
TRANSFORMERS_SHARE = 10  # one prompt in so many is answered one at a time
MULTI, EACH, SINGLE, BATCHED = (
    "one vLLM engine for all",
    "a vLLM engine for each",
    "transformers, a prompt at a time",
    "transformers, 32 prompts at a time",
)
EACH_GOAL, TRANSFORMERS_GOAL = 3.0, 5.0


def add(parts: Sequence[Done]) -> Done:
    """Several jobs as one."""
    return Done(
        sum(part.cold for part in parts),
        sum(part.warm for part in parts),
        sum(part.wall for part in parts),
        sum(part.tokens for part in parts),
        {adapter: said for part in parts for adapter, said in part.answers.items()},
    )


def run_variants(folder: Path, adapters: int, prompts: int, share: int) -> dict[str, Done]:
    """Every way to have base and adapters answer the same prompts, each once."""
    paths = make_adapters(folder, adapters)
    asked = demo_requests(demo_cases()[:prompts])
    names = [None, *(path.name for path in paths)]
    calls: list[Call] = [(name, asked) for name in names]
    multi = demo_spec(*paths)
    alone = [
        demo_spec(*(path for path in paths if path.name == name)) if name else demo_spec()
        for name in names
    ]
    transformers = replace(multi, engine="transformers")
    few: tuple[Call, ...] = tuple((name, asked[::share]) for name in names)
    return {
        MULTI: run_job(Job(multi, tuple(calls))),
        EACH: add([run_job(Job(spec, (call,))) for spec, call in zip(alone, calls, strict=True)]),
        SINGLE: run_job(Job(transformers, few)),
        BATCHED: run_job(Job(transformers, tuple(calls), batched=True)),
    }


def equal_share(one: Done, other: Done, step: int) -> float:
    """Share of `other`'s answers that are `one`'s; `other` had one prompt in `step`."""
    pairs: list[tuple[Tokens, Tokens]] = []
    for adapter, said in other.answers.items():
        pairs += zip(one.answers[adapter][::step], said, strict=True)
    return sum(a == b for a, b in pairs) / len(pairs)


def compare_fleets(
    rounds: int, adapters: int = ADAPTERS, prompts: int = PROMPTS, share: int = TRANSFORMERS_SHARE
) -> tuple[list[Costs], list[Comparison]]:
    """CPU time of a generated token: start-up counted (cold) and not (warm)."""
    found: list[dict[str, Done]] = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            found.append(run_variants(Path(folder), adapters, prompts, share))
    title = f"base and {adapters} adapters x {prompts} prompts, greedy"
    warm = Costs(f"{title}: answering", _figures(found, cold=False))
    cold = Costs(f"{title}: start-up counted", _figures(found, cold=True))
    steps = {EACH: 1, SINGLE: share, BATCHED: 1}
    rows = []
    for costs, goals in ((cold, {EACH: EACH_GOAL}), (warm, {SINGLE: TRANSFORMERS_GOAL})):
        for other, step in steps.items():
            equal = min(equal_share(one[MULTI], one[other], step) for one in found)
            rows.append(
                Comparison.of(
                    costs.title,
                    f"{other} / {MULTI}",
                    costs.ratios(other, MULTI),
                    goal=goals.get(other),
                    note=f"{equal:.2%} of the answers equal",
                )
            )
    return [warm, cold], rows


def _figures(found: Sequence[dict[str, Done]], cold: bool) -> dict[str, list[float]]:
    """CPU seconds a token, by variant, round by round.

    Start-up is spread over the tokens of all prompts, also where only some were answered.
    """
    full = [one[MULTI].tokens for one in found]
    return {
        name: [
            one[name].warm / one[name].tokens + (one[name].cold / tokens if cold else 0.0)
            for one, tokens in zip(found, full, strict=True)
        ]
        for name in (MULTI, EACH, SINGLE, BATCHED)
    }
