"""The benchmark of evaluation at toy size, so that it keeps running; no figure is judged here."""

import math
from dataclasses import replace

import pytest

from eval.generation.transformers_engine import TransformersEngine
from tests.bench.eval import fleets, prefixes
from tests.bench.eval.fleets import BATCHED, EACH, MULTI, SINGLE, Done, compare_fleets, equal_share
from tests.bench.eval.jobs import Batched
from tests.bench.eval.reports import build_report, made_samples
from tests.bench.eval.world import demo_cases, demo_requests, demo_spec, make_adapters

pytestmark = pytest.mark.soak


def test_there_are_prompts_enough() -> None:
    assert len(demo_cases()) >= fleets.PROMPTS


def test_batches_answer_as_one_prompt_at_a_time_does(tmp_path) -> None:
    """Adapters change the answers, which are compared token by token."""
    spec = replace(demo_spec(*make_adapters(tmp_path, 1)), engine="transformers")
    asked = [replace(one, max_tokens=24) for one in demo_requests(demo_cases()[:4])]
    single, batched = TransformersEngine(spec), Batched(spec)
    said = {}
    for adapter in (None, "adapter0"):
        said[adapter] = [one.token_ids for one in single.generate(asked, adapter)]
        assert [one.token_ids for one in batched.generate(asked, adapter)] == said[adapter]
    assert said[None] != said["adapter0"]


def test_equal_answers_are_counted_over_the_prompts_that_both_answered() -> None:
    one = Done(0, 0, 0, 0, {None: [(1,), (2,), (3,), (4,)]})
    assert equal_share(one, one, 1) == 1
    assert equal_share(one, Done(0, 0, 0, 0, {None: [(1,), (9,)]}), 2) == 0.5


def test_start_up_is_spread_over_all_prompts(monkeypatch) -> None:
    """A variant that answered a tenth of the prompts is not charged ten start-ups."""
    full = Done(10.0, 20.0, 0, 100, {None: [(1,), (1,)]})
    tenth = Done(10.0, 2.0, 0, 10, {None: [(1,)]})
    found = {MULTI: full, EACH: full, SINGLE: tenth, BATCHED: full}
    monkeypatch.setattr(fleets, "run_variants", lambda *arguments: found)
    (warm, cold), rows = compare_fleets(1, share=2)
    assert warm.by_variant[SINGLE] == warm.by_variant[MULTI] == [0.2]
    assert cold.by_variant[SINGLE] == pytest.approx([0.3])
    assert {row.median for row in rows} == {1.0}


def test_wordings_of_a_question_follow_each_other_below_the_same_rules() -> None:
    plain = prefixes.robustness_requests(2, "")
    ruled = prefixes.robustness_requests(2, prefixes.RULES)
    assert len(plain) == len(ruled) > 4
    start = ruled[0].prompt_ids[:100]
    assert all(one.prompt_ids[:100] == start for one in ruled)


def test_a_report_is_judged_and_drawn() -> None:
    cost = build_report(400)
    assert all(math.isfinite(value) and value > 0 for value in cost)
    assert len(made_samples("base", 200)) == 200
