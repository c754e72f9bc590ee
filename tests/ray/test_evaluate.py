"""Evaluation on a real Ray cluster and real vLLM engines."""

import shutil
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch

from cluster.rundir import RunDirectory
from eval.generation.actors import Chunk, Fleet, Group
from eval.generation.adapters import check_adapter
from eval.generation.generate import Completion, EngineSpec, Request
from eval.generation.samples import read_samples, samples_path
from eval.generation.transformers_engine import TransformersEngine
from eval.generation.vllm_engine import CHUNK_REQUESTS
from nlirg.errors import InputError
from pipelines.evaluate.answers import Answers
from tests.ray.trained import QUESTIONS, save_adapter, trained_run
from tests.road import evaluate, trained

pytestmark = pytest.mark.ray


def requests(count: int, max_tokens: int = 24, temperature: float = 0.0) -> tuple[Request, ...]:
    random = torch.Generator().manual_seed(1)
    lengths = torch.randint(1, 60, (count,), generator=random).tolist()
    return tuple(
        Request(
            ("domain", str(i)),
            tuple(torch.randint(3, 300, (length,), generator=random).tolist()),
            max_tokens,
            temperature,
            seed=i,
        )
        for i, length in enumerate(lengths)
    )


def choices(count: int) -> tuple[Request, ...]:
    """Requests with two to five options of one to four tokens."""
    random = torch.Generator().manual_seed(2)

    def options() -> tuple[tuple[int, ...], ...]:
        count = int(torch.randint(2, 6, (), generator=random))
        lengths = torch.randint(1, 5, (count,), generator=random).tolist()
        return tuple(
            tuple(torch.randint(3, 300, (length,), generator=random).tolist()) for length in lengths
        )

    return tuple(
        replace(one, key=("ood", one.key[1]), max_tokens=0, options=options())
        for one in requests(count)
    )


def spec_of(base: Path, *adapters: Path) -> EngineSpec:
    checked = tuple(check_adapter(path.name, path, base) for path in adapters)
    return EngineSpec(str(base), str(base), "cpu", 256, (2,), checked)


def run_fleet(fleet: Fleet) -> dict[str, list[Completion]]:
    answers: dict[str, list[Completion]] = {}
    for chunk, completions in fleet.run():
        answers.setdefault(chunk.variant, []).extend(completions)
    return answers


def engine_processes() -> list[psutil.Process]:
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if process.name().startswith("ray::EngineActo"):
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


def wait_until(condition, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False


@pytest.mark.vllm
def test_vllm_gives_the_greedy_tokens_of_transformers_and_peft(base, ray_cluster, tmp_path) -> None:
    """Also for the base after adapters were used, and for adapters of different rank.

    Options ranked in the same calls have the same log-probabilities.
    """
    spec = spec_of(
        base,
        save_adapter(base, tmp_path / "small", rank=4, seed=1),
        save_adapter(base, tmp_path / "large", rank=12, seed=2),
    )
    asked = (*requests(8), *choices(8), *requests(16)[8:])
    order = [("base", None), ("small", "small"), ("large", "large"), ("base again", None)]
    chunks = tuple(Chunk(name, adapter, asked) for name, adapter in order)
    answers = run_fleet(Fleet([Group(spec, chunks)], 1, 1, 0, 300))
    reference = TransformersEngine(spec)
    for name, adapter in order:
        expected = reference.generate(asked, adapter)
        for one, other in zip(answers[name], expected, strict=True):
            assert replace(one, option_logprobs=()) == replace(other, option_logprobs=()), name
            assert one.option_logprobs == pytest.approx(other.option_logprobs, abs=1e-4), name
    assert answers["base again"] == answers["base"]
    different = {tuple(a.token_ids for a in answers[name]) for name in ("base", "small", "large")}
    assert len(different) == 3


def test_failed_engine_is_replaced_and_its_chunk_answered_once(ray_cluster, tmp_path) -> None:
    """One engine dies as a process, one raises: both chunks come back, each exactly once."""

    class Fragile:
        def generate(self, requests, adapter):
            import os

            mark = tmp_path / requests[0].key[1]
            if not mark.exists():
                mark.touch()
                if mark.name == "0":
                    os._exit(1)
                if mark.name == "4":
                    raise FloatingPointError("NaN")
            return [Completion(r.key[1], r.prompt_ids, "stop") for r in requests]

    asked = requests(8)
    chunks = tuple(Chunk("v", None, asked[i : i + 2]) for i in range(0, 8, 2))
    fleet = Fleet(
        [Group(EngineSpec("m", "m", "cpu", 64, ()), chunks)], 2, 1, 0, 120, lambda spec: Fragile()
    )
    answers = run_fleet(fleet)["v"]
    assert sorted(a.text for a in answers) == [str(i) for i in range(8)]
    assert fleet.replaced == 2
    assert wait_until(lambda: not engine_processes(), 10)


def test_chunk_that_breaks_two_engines_is_a_clear_error(ray_cluster) -> None:
    class Broken:
        def generate(self, requests, adapter):
            raise FloatingPointError("NaN log-probability")

    group = Group(EngineSpec("m", "m", "cpu", 64, ()), (Chunk("nlirg", None, requests(2)),))
    with pytest.raises(InputError, match=r"nlirg: two engines failed .* NaN log-probability"):
        run_fleet(Fleet([group], 2, 1, 0, 60, lambda spec: Broken()))
    assert wait_until(lambda: not engine_processes(), 10)


def test_silent_engine_is_a_clear_error(ray_cluster) -> None:
    class Hanging:
        def generate(self, requests, adapter):
            time.sleep(600)

    group = Group(EngineSpec("m", "m", "cpu", 64, ()), (Chunk("base", None, requests(2)),))
    with pytest.raises(InputError, match="no engine answered within 3 s"):
        run_fleet(Fleet([group], 1, 1, 0, 3, lambda spec: Hanging()))
    assert wait_until(lambda: not engine_processes(), 10)


def contents(run: RunDirectory) -> dict[str, str]:
    folder = run.path / "eval"
    return {
        str(path.relative_to(folder)): path.read_text() for path in folder.glob("*/samples_*.jsonl")
    }


@pytest.fixture(scope="module")
def evaluated(base, ray_cluster, tmp_path_factory):
    """An adapter and a full model that is the base again, answered in small chunks; the summary.

    Both also at half their strength.
    """
    folder, arms = tmp_path_factory.mktemp("quiet"), ("nlirg", "full")
    recipe, run = trained_run(base, folder, "quiet", arms, scales=[0.5])
    shutil.copytree(base, run.arm("full").path / "model")
    run.arm("full").succeed("mark", trained(kind="full"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(CHUNK_REQUESTS, "cpu", 16)
        summary = evaluate(recipe, run)
    assert wait_until(lambda: not engine_processes(), 10)
    return recipe, run, summary


@pytest.mark.vllm
def test_every_case_is_answered_and_an_over_long_prompt_is_an_error_row(evaluated) -> None:
    recipe, run, summary = evaluated
    assert summary.replaced == 0
    domain = read_samples(samples_path(run.evaluation("nlirg").path, "domain"))
    assert [sample.case_id for sample in domain] == [f"q{i}" for i in range(QUESTIONS)]
    refused = [sample for sample in domain if sample.finish_reason == "error"]
    assert [sample.case_id for sample in refused] == ["q3"]
    assert "the limit is 96" in refused[0].error
    assert all(sample.tokens for sample in domain if sample not in refused)
    results = summary.variants["nlirg"]["suites"]
    assert results["domain"]["n"] == QUESTIONS
    assert results["domain"]["errors"] == 1
    base_samples = read_samples(samples_path(run.evaluation("base").path, "domain"))
    assert [s.prompt_sha256 for s in base_samples] == [s.prompt_sha256 for s in domain]
    assert [s.answer for s in base_samples] != [s.answer for s in domain]
    again = evaluate(recipe, run)
    assert (again.answered, again.variants) == (0, summary.variants)


@pytest.mark.vllm
def test_evaluation_survives_a_killed_engine(evaluated, base, tmp_path, monkeypatch) -> None:
    """The same samples with and without a kill."""
    monkeypatch.setitem(CHUNK_REQUESTS, "cpu", 16)
    recipe, run = trained_run(base, tmp_path, "killed")
    killed: list[int] = []
    take = Answers.take

    def take_and_kill(*arguments):
        """Kill the engine at its first answers: it has a further chunk by then."""
        if not killed:
            victim = engine_processes()[0]
            victim.kill()
            killed.append(victim.pid)
        take(*arguments)

    monkeypatch.setattr(Answers, "take", take_and_kill)
    summary = evaluate(recipe, run)
    assert killed
    assert summary.replaced == 1
    quiet = contents(evaluated[1])
    expected = {name: quiet[name] for name in quiet if name.split("/")[0] in ("base", "nlirg")}
    assert contents(run) == expected


@pytest.mark.vllm
def test_full_model_gets_its_own_engine(evaluated) -> None:
    """A full checkpoint equal to the base answers as the base does."""
    answers = contents(evaluated[1])
    for suite in ("domain", "robustness", "template"):
        assert answers[f"full/samples_{suite}.jsonl"] == answers[f"base/samples_{suite}.jsonl"]


@pytest.mark.vllm
def test_arms_at_half_strength_lie_between_the_base_and_themselves(evaluated) -> None:
    """Between two equal models lies the same one; its files are gone once it has answered."""
    _, run, summary = evaluated
    answers = contents(run)
    domain = {name: answers[f"{name}/samples_domain.jsonl"] for name in summary.variants}
    assert domain["full@0.5"] == domain["base"]
    assert len({domain[name] for name in ("base", "nlirg@0.5", "nlirg")}) == 3
    assert summary.variants["nlirg@0.5"]["suites"].keys() == {"domain", "template"}
    assert not list(run.path.glob("eval/full@0.5/scaled-*"))


@pytest.mark.vllm
def test_transformers_instead_of_vllm_gives_the_same_greedy_answers(
    evaluated, base, tmp_path
) -> None:
    """In the same actors, kept in the same files."""
    settings = {"engine": "transformers", "template_cases": 4, "scales": [0.5]}
    recipe, run = trained_run(base, tmp_path, "other", **settings)
    evaluate(recipe, run)
    answers, expected = contents(run), contents(evaluated[1])
    for suite in ("domain", "robustness"):
        for variant in ("base", "nlirg"):
            name = f"{variant}/samples_{suite}.jsonl"
            assert answers[name] == expected[name]
    scaled = "nlirg@0.5/samples_domain.jsonl"
    assert answers[scaled] == expected[scaled]
