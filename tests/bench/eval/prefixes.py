"""What caching of common prompt beginnings gives the robustness suite."""

from __future__ import annotations

from collections.abc import Sequence

from eval.cases.suites import robustness_cases
from eval.config import EvaluateConfig
from eval.generation.generate import Request
from eval.schema.case import Case, Message
from tests.bench.eval.jobs import Done, Job, run_job
from tests.bench.eval.world import demo_cases, demo_requests, demo_spec
from tests.bench.measure import Comparison

QUESTIONS = 60
RULES = " ".join(f"Rule {i}: read the ticket with care and keep to the facts." for i in range(20))


def robustness_requests(questions: int, system: str) -> tuple[Request, ...]:
    """Domain questions and their rewordings, question by question, below a system message."""
    domain = [case for case in demo_cases() if case.suite == "domain"][:questions]
    wordings = robustness_cases(domain, EvaluateConfig().perturbations, seed=0)
    return demo_requests([_below(case, system) for case in [*domain, *wordings]])


def _below(case: Case, system: str) -> Case:
    if not system:
        return case
    messages = (Message(role="system", content=system), *case.messages)
    return case.model_copy(update={"messages": messages})


def compare_prefixes(rounds: int, questions: int = QUESTIONS) -> list[Comparison]:
    """CPU time with the cache off over that with it on, in turns."""
    rows = []
    for name, system in (("the demo's prompts", ""), ("below one long system message", RULES)):
        asked = robustness_requests(questions, system)
        pairs = [(_run(asked, cached=False), _run(asked, cached=True)) for _ in range(rounds)]
        length = sum(len(request.prompt_ids) for request in asked) / len(asked)
        equal = all(off.answers == on.answers for off, on in pairs)
        rows.append(
            Comparison.of(
                f"robustness suite of {questions} questions, {len(asked)} prompts: CPU time",
                f"{name}, cache off / on",
                [off.warm / on.warm for off, on in pairs],
                note=f"{length:.0f} prompt and {pairs[0][1].tokens / len(asked):.0f} answer tokens "
                f"on average; answers {'equal' if equal else 'DIFFER'}",
            )
        )
    return rows


def _run(asked: Sequence[Request], cached: bool) -> Done:
    return run_job(Job(demo_spec(), ((None, tuple(asked)),), {"enable_prefix_caching": cached}))
