"""The judge's comparison of every arm's domain answers with the base's, kept as it comes."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from cluster.rundir import RunDirectory
from eval.cases.suites import limit
from eval.checkers.likelihood import ranks_options
from eval.config import JudgeConfig
from eval.generation.samples import (
    append_lines,
    drop_torn_line,
    read_lines,
    read_samples,
    samples_path,
)
from eval.judge.client import JudgeClient
from eval.judge.comparison import Judgement, Pair, judge_measure
from eval.metrics.definition import Measure
from eval.schema.case import Case
from eval.schema.sample import Sample
from nlirg.atomic_io import write_text
from nlirg.errors import InputError
from pipelines.progress import Progress
from pipelines.recipe import Recipe

FILE = "judgements.jsonl"
AT_ONCE = 8  # requests in flight


def judge_answers(recipe: Recipe, run: RunDirectory, baseline: str, cases: Sequence[Case]) -> None:
    """Have the judge compare answers, into `eval/<variant>/judgements.jsonl`.

    Args:
        recipe: `evaluate.judge` says who judges, and how many of the domain cases.
        run: holds the answers; judgements that are there already are kept.
        baseline: the variant to compare with.
        cases: of which those of the domain are judged that ask for text.

    Raises:
        InputError: if the judge cannot be reached; the same command goes on where it stopped.
    """
    config = recipe.evaluate.judge
    if config is None:
        return
    domain = [case for case in cases if case.suite == "domain" and not ranks_options(case)]
    chosen = limit(domain, config.max_cases, recipe.seed)
    base = _answers(run, baseline)
    for arm in recipe.arms:
        tuned = _answers(run, arm)
        pairs = [
            Pair(case, base[case.id].answer, tuned[case.id].answer, config)
            for case in chosen
            if case.id in base and case.id in tuned
        ]
        _judge_arm(_path(run, arm), arm, pairs, config)


def judge_measures(recipe: Recipe, run: RunDirectory) -> list[Measure]:
    """What the judge said, for the comparison; none where it was not asked.

    Raises:
        InputError: if an arm was not judged, or the judge's replies could not be read.
    """
    config = recipe.evaluate.judge
    if config is None or not recipe.arms:
        return []
    return [judge_measure({arm: _read(_path(run, arm)) for arm in recipe.arms}, config.model)]


def _judge_arm(path: Path, arm: str, pairs: Sequence[Pair], config: JudgeConfig) -> None:
    """Judge the pairs that are not judged yet, then write the file anew in the cases' order."""
    found = {}
    if path.is_file():
        drop_torn_line(path)
        found = {judgement.sha256: judgement for judgement in _read(path)}
    missing = [pair for pair in pairs if pair.sha256 not in found]
    with (
        Progress(f"judge {arm}", len(missing), "pair") as progress,
        closing(_ask(missing, config)) as judgements,
    ):
        for done, judgement in enumerate(judgements, start=1):
            append_lines(path, judgement.model_dump_json() + "\n")
            found[judgement.sha256] = judgement
            progress.to(done)
    lines = (found[pair.sha256].model_dump_json() + "\n" for pair in pairs)
    write_text(path, "".join(lines))


def _ask(pairs: Sequence[Pair], config: JudgeConfig) -> Generator[Judgement, None, None]:
    """Judgements in the order of the pairs, so that all before a failure are kept."""
    client = JudgeClient(config)

    def judged(pair: Pair) -> Judgement:
        if pair.base == pair.tuned:
            return pair.judged(())
        return pair.judged([client.ask(prompt) for prompt in pair.prompts])

    pool = ThreadPoolExecutor(AT_ONCE)
    try:
        yield from pool.map(judged, pairs)
    finally:
        pool.shutdown(cancel_futures=True)


def _answers(run: RunDirectory, variant: str) -> dict[str, Sample]:
    """A variant's answers to the domain cases, by case; without those that failed."""
    samples = read_samples(samples_path(run.evaluation(variant).path, "domain"))
    return {s.case_id: s for s in samples if s.finish_reason != "error" and not s.error}


def _path(run: RunDirectory, variant: str) -> Path:
    return run.evaluation(variant).path / FILE


def _read(path: Path) -> list[Judgement]:
    if not path.is_file():
        raise InputError(f"{path}: missing; evaluate this run first")
    remedy = f"delete {path} and evaluate again"
    return read_lines(path, Judgement.model_validate_json, "a judgement", remedy)
