"""Generation: which engines answer what of a run, and the answers kept as they come."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cluster.plan import Pool, model_pool
from cluster.rundir import StageFolder, fingerprint
from cluster.session import connect
from eval.cases.suites import judging_hash
from eval.generation.actors import Chunk, Fleet, Group
from eval.generation.adapters import Adapter, check_adapter, check_model
from eval.generation.engines import chunk_requests
from eval.generation.generate import (
    Completion,
    EngineSpec,
    Key,
    Prompt,
    Request,
    error_sample,
    make_request,
    refusal,
)
from pipelines.chat import chat_of
from pipelines.evaluate.answers import Answers, Variant
from pipelines.evaluate.merged import Merging
from pipelines.progress import Progress, say
from pipelines.recipe import Recipe

BASE = "base"


@dataclass
class Work:
    """What was done: answers and tokens generated, engines that failed and were replaced."""

    answered: int = 0
    tokens: int = 0
    replaced: int = 0

    def __add__(self, other: Work) -> Work:
        return Work(
            self.answered + other.answered,
            self.tokens + other.tokens,
            self.replaced + other.replaced,
        )


@dataclass(frozen=True)
class Generation:
    """How one run's answers are generated.

    Attributes:
        recipe: the run's.
        base: directory of the base model.
        settings: what decides the answers beside prompts and weights; holds `context`,
            `stop_ids` and `seed`.
        merging: makes variants that vLLM can load.
    """

    recipe: Recipe
    base: Path
    settings: dict[str, Any]
    merging: Merging

    def answer(
        self,
        asked: Sequence[tuple[Variant, StageFolder, list[Prompt]]],
        name: str,
        *,
        may_change: bool = False,
    ) -> Work:
        """Have every variant answer its prompts into its stage's folder, as far as not done yet.

        Answers that are there are kept; where something else is to judge them now, it does.

        Args:
            asked: variants, where their answers are kept, and what they are asked.
            name: of this work, for the log.
            may_change: whether a folder may hold answers to other prompts. Those that are not
                asked any more are dropped then; otherwise the folder is refused.

        Raises:
            InputError: if a folder holds answers of other settings, the weights of a variant
                cannot be used, or the engines fail.
        """
        unfinished = [
            answers
            for one in asked
            if (answers := self._resumed(*one, name, may_change)) is not None
        ]
        missing = [answers for answers in unfinished if answers.missing]
        work = self._generate(missing, name) if missing else Work()
        for answers in unfinished:
            answers.finish(self.settings)
        return work

    def ask_base(self, requests: Sequence[Request]) -> dict[Key, Completion]:
        """Answer requests with the base model alone, keeping nothing."""
        answers: dict[Key, Completion] = {}
        with closing(self.base_answers(requests, "reword", "text")) as parts:
            for asked, completions in parts:
                answers |= zip((request.key for request in asked), completions, strict=True)
        return answers

    def base_answers(
        self, requests: Sequence[Request], name: str, unit: str
    ) -> Generator[tuple[Sequence[Request], list[Completion]], None, None]:
        """Answer requests with the base model alone, and yield the answers as they come.

        Args:
            requests: to be answered.
            name: of this work, for its progress.
            unit: what an answer is called there.
        """
        pool, spec = self._engines()
        check_model(self.base)
        fleet = self._fleet(pool, [Group(spec, tuple(_chunks(BASE, None, requests, spec)))])
        done = 0
        with Progress(name, len(requests), unit) as progress, closing(fleet.run()) as results:
            for chunk, completions in results:
                yield chunk.requests, completions
                done += len(completions)
                progress.to(done, BASE)

    def _resumed(
        self,
        variant: Variant,
        stage: StageFolder,
        prompts: list[Prompt],
        name: str,
        may_change: bool,
    ) -> Answers | None:
        """What is there of a variant's answers; None if they are complete."""
        asked = [[*prompt.key, prompt.sha256] for prompt in prompts]  # as the template is, too
        answering = {**self.settings, "model": variant.identity}
        mark = fingerprint(answering if may_change else {**answering, "prompts": asked})
        judging = fingerprint([judging_hash(prompt.case for prompt in prompts), asked])
        answers = Answers(variant, stage, mark, judging, prompts)
        if answers.complete:
            say(name, f"{variant.name}: already done")
            return None
        again = stage.marker.is_file()
        answers.resume(self.recipe.evaluate, self.settings["context"])
        if again:
            say(name, f"{variant.name}: {len(answers.samples)} answers are kept and judged again")
        return answers

    def _generate(self, unfinished: Sequence[Answers], name: str) -> Work:
        """Generate and judge what is missing."""
        pool, common = self._engines()
        for answers in unfinished:
            answers.variant = self.merging.ready(answers.variant)
        groups = plan_groups(self.recipe, common, unfinished)
        total = sum(len(chunk.requests) for group in groups for chunk in group.chunks)
        fleet = self._fleet(pool, groups)
        by_name = {answers.variant.name: answers for answers in unfinished}
        work = Work()
        with Progress(name, total, "answer") as progress, closing(fleet.run()) as results:
            for chunk, completions in results:
                by_name[chunk.variant].take(chunk.requests, completions)
                work.answered += len(completions)
                work.tokens += sum(len(completion.token_ids) for completion in completions)
                progress.to(work.answered, chunk.variant)
        work.replaced = fleet.replaced
        if fleet.replaced:
            say(name, f"{fleet.replaced} engine(s) failed and were replaced")
        return work

    def _engines(self) -> tuple[Pool, EngineSpec]:
        """Connect to the cluster; how many engines it holds, and an engine of the base model."""
        connect(self.recipe.cluster)
        config = self.recipe.evaluate
        pool = model_pool(config.engines, config.tensor_parallel_size)
        spec = EngineSpec(
            model=str(self.base.resolve()),
            tokenizer=str(self.base.resolve()),
            device="gpu" if pool.num_gpus else "cpu",
            context=self.settings["context"],
            stop_ids=self.settings["stop_ids"],
            parts=chat_of(self.recipe).parts,
            tensor_parallel_size=config.tensor_parallel_size,
            engine=config.engine,
        )
        return pool, spec

    def _fleet(self, pool: Pool, groups: Sequence[Group]) -> Fleet:
        timeout = self.recipe.cluster.stall_timeout_s
        return Fleet(groups, pool.actors, pool.num_cpus, pool.num_gpus, timeout)


def plan_groups(recipe: Recipe, common: EngineSpec, unfinished: Sequence[Answers]) -> list[Group]:
    """Which engines answer what: base and its adapters share engines, a full model has its own.

    Raises:
        InputError: if the weights of a variant cannot be used.
    """
    chunks: dict[Path, list[Chunk]] = defaultdict(list)
    adapters: dict[Path, list[Adapter]] = defaultdict(list)
    for answers in unfinished:
        variant = answers.variant
        if variant.adapter is not None:
            checked = check_adapter(variant.name, variant.adapter.resolve(), variant.model)
            adapters[variant.model].append(checked)
        chunks[variant.model] += missing_chunks(answers, recipe, common)
    groups = []
    for model, parts in chunks.items():
        check_model(model)
        spec = replace(common, model=str(model.resolve()), adapters=tuple(adapters[model]))
        groups.append(Group(spec, tuple(parts)))
    return groups


def missing_chunks(answers: Answers, recipe: Recipe, common: EngineSpec) -> list[Chunk]:
    """The requests whose samples are not there yet; prompts that cannot be asked become samples."""
    requests, refused = [], []
    for prompt in answers.missing:
        if reason := refusal(prompt, recipe.evaluate, common.context):
            refused.append(error_sample(prompt, reason))
        else:
            requests.append(make_request(prompt, recipe.evaluate, common.context, recipe.seed))
    answers.add(refused)
    variant = answers.variant
    adapter = variant.name if variant.adapter is not None else None
    return _chunks(variant.name, adapter, requests, common)


def _chunks(
    variant: str, adapter: str | None, requests: Sequence[Request], spec: EngineSpec
) -> list[Chunk]:
    size = chunk_requests(spec)
    return [
        Chunk(variant, adapter, tuple(requests[i : i + size]))
        for i in range(0, len(requests), size)
    ]
