"""Evaluation: base and every arm answer the same prompts on vLLM; the answers are judged."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from transformers import AutoConfig

from cluster.plan import Pool, model_pool
from cluster.rundir import RunDirectory, fingerprint
from cluster.session import connect
from eval.actors import Chunk, Fleet, Group
from eval.adapters import Adapter, check_adapter, check_model, weights_hash
from eval.config import EvaluateConfig
from eval.generate import (
    Completion,
    EngineSpec,
    Key,
    Prompt,
    Request,
    error_sample,
    make_request,
    make_sample,
    refusal,
    render,
    stop_ids,
)
from eval.schema import Case, Sample
from eval.sources import ood_cases
from eval.suites import cases_hash, holdout_cases, limit, load_cases, robustness_cases
from eval.suites import template_cases as sampled_cases
from eval.vllm_engine import CHUNK_REQUESTS
from nlirg.errors import InputError
from nlirg.models import load_tokenizer, model_directory
from nlirg.records import Record
from pipelines.answers import Answers, Variant
from pipelines.paraphrases import model_paraphrases
from pipelines.progress import Progress, say
from pipelines.recipe import Recipe

BASE = "base"
# What of the section decides the answers; the rest says how to judge them or where to compute.
ANSWER_KEYS = {"max_prompt_tokens", "max_new_tokens", "template_temperature"}


def evaluate(recipe: Recipe, run: RunDirectory) -> dict[str, Any]:
    """Answer and judge every case with base and every arm, into `eval/<variant>/`.

    Answers are kept as they come; an interrupted evaluation goes on with the missing ones.

    Returns:
        variants (name -> suites -> n, errors, mean_score, accuracy, stop_rate, tokens,
        cases_hash; and identity), answered, tokens, seconds and replaced (engines) of this call.

    Raises:
        InputError: if there are no cases, an arm is not trained, its files cannot be used, or the
            engines fail.
    """
    started = time.monotonic()
    base = model_directory(recipe.model)
    tokenizer = load_tokenizer(recipe.model)
    settings = {
        **recipe.evaluate.model_dump(mode="json", include=ANSWER_KEYS),
        "context": context_length(base, recipe.evaluate),
        "stop_ids": stop_ids(tokenizer, dict(recipe.encode.template_options)),
        "seed": recipe.seed,
    }
    variants = find_variants(recipe, run, base)
    cases = evaluation_cases(recipe, run)
    if recipe.evaluate.model_paraphrases:
        cases += model_paraphrases(
            recipe,
            run,
            tokenizer,
            [case for case in cases if case.suite == "domain"],
            base=variants[0].identity,
            context=settings["context"],
            ask=partial(_ask_base, recipe, base, settings),
        )
    prompts = render(tokenizer, cases, dict(recipe.encode.template_options))
    _require_answerable(prompts, recipe.evaluate, settings["context"])
    open_answers = _open_answers(variants, run, prompts, settings)
    done = {"answered": 0, "tokens": 0, "replaced": 0}
    if open_answers:
        done = _answer(recipe, base, open_answers, prompts, settings)
        for answers in open_answers:
            answers.finish(prompts, settings)
    summaries = {variant.name: run.evaluation(variant.name).summary() for variant in variants}
    return {"variants": summaries, **done, "seconds": time.monotonic() - started}


def check_cases(recipe: Recipe) -> None:
    """Read the case files, so that a fault in them is told before anything is trained.

    Raises:
        InputError: if a file is missing or wrong, or there is nothing to evaluate on.
    """
    config = recipe.evaluate
    if config.domain is None and not recipe.holdout:
        raise InputError(
            "nothing to evaluate on: set evaluate.domain to a file of cases, or holdout to a "
            "number of rows to keep from training"
        )
    if config.domain is not None:
        load_cases(config.domain, "domain")
    ood_cases(config.ood)


def evaluation_cases(recipe: Recipe, run: RunDirectory) -> list[Case]:
    """All cases of all suites; the same for every variant.

    Raises:
        InputError: if neither a file of domain cases nor held-out rows are there.
    """
    config, seed = recipe.evaluate, recipe.seed
    if config.domain is not None:
        domain = load_cases(config.domain, "domain")
    else:
        domain = holdout_cases(_held_out(run.holdout))
    domain = limit(domain, config.max_cases, seed)
    sampled = min(config.template_cases, config.max_cases or config.template_cases)
    cases = [
        *domain,
        *robustness_cases(domain, config.perturbations, seed),
        *sampled_cases(domain, sampled, seed),
    ]
    return cases + limit(ood_cases(config.ood), config.max_cases, seed)


def _held_out(path: Path) -> list[Record]:
    """Rows that encoding kept from training."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    if not lines:
        raise InputError(
            "nothing to evaluate on: set evaluate.domain to a file of cases, or holdout to a "
            "number of rows and run encode"
        )
    return [Record(**json.loads(line)) for line in lines]


def context_length(base: Path, config: EvaluateConfig) -> int:
    """Tokens of prompt and answer together: what the recipe asks, if the model can hold it."""
    model = AutoConfig.from_pretrained(base, local_files_only=True).get_text_config()
    return min(config.max_prompt_tokens + config.max_new_tokens, model.max_position_embeddings)


def _require_answerable(prompts: Sequence[Prompt], config: EvaluateConfig, context: int) -> None:
    reasons = [refusal(prompt, config, context) for prompt in prompts]
    if all(reasons):
        raise InputError(f"none of the {len(prompts)} prompts can be answered: {reasons[0]}")
    refused = sum(map(bool, reasons))
    if refused:
        say("evaluate", f"{refused} of {len(prompts)} prompts cannot be answered; see `error`")


def find_variants(recipe: Recipe, run: RunDirectory, base: Path) -> list[Variant]:
    """Base and every trained arm.

    Raises:
        InputError: if an arm is not trained yet, or has no safetensors weights.
    """
    base_hash = weights_hash(base)
    variants = [Variant(BASE, base, None, base_hash)]
    for arm in recipe.arms:
        summary = run.arm(arm).summary()
        folder = run.arm(arm).path / "model"
        identity = weights_hash(folder)
        if summary["kind"] == "lora":
            variants.append(Variant(arm, base, folder, f"{base_hash}+{identity}"))
        else:
            variants.append(Variant(arm, folder, None, identity))
    return variants


def _open_answers(
    variants: Sequence[Variant],
    run: RunDirectory,
    prompts: Sequence[Prompt],
    settings: dict[str, Any],
) -> list[Answers]:
    """The variants that are not complete, with what is there of them."""
    asked = {
        "cases": cases_hash(prompt.case for prompt in prompts),
        "prompts": [prompt.sha256 for prompt in prompts],  # what tokenizer and template made of it
    }
    found = []
    for variant in variants:
        stage = run.evaluation(variant.name)
        mark = fingerprint({**asked, **settings, "model": variant.identity})
        if stage.finished(mark) is not None:
            say("evaluate", f"{variant.name}: already done")
            continue
        answers = Answers(variant, stage, mark)
        answers.resume()
        found.append(answers)
    return found


def _answer(
    recipe: Recipe,
    base: Path,
    open_answers: Sequence[Answers],
    prompts: Sequence[Prompt],
    settings: dict[str, Any],
) -> dict[str, int]:
    """Generate and judge what is missing; return counts of the work done."""
    pool, common = _engines(recipe, base, settings)
    groups = plan_groups(recipe, common, open_answers, prompts)
    total = sum(len(chunk.requests) for group in groups for chunk in group.chunks)
    fleet = _fleet(recipe, pool, groups)
    by_name = {answers.variant.name: answers for answers in open_answers}
    by_key = {prompt.key: prompt for prompt in prompts}
    answered = tokens = 0
    with Progress("evaluate", total, "answer") as progress, closing(fleet.run()) as results:
        for chunk, completions in results:
            by_name[chunk.variant].add(_judge(chunk, completions, by_key))
            answered += len(completions)
            tokens += sum(len(completion.token_ids) for completion in completions)
            progress.to(answered, chunk.variant)
    if fleet.replaced:
        say("evaluate", f"{fleet.replaced} engine(s) failed and were replaced")
    return {"answered": answered, "tokens": tokens, "replaced": fleet.replaced}


def _engines(recipe: Recipe, base: Path, settings: dict[str, Any]) -> tuple[Pool, EngineSpec]:
    """Connect to the cluster; how many engines it holds, and an engine of the base model."""
    connect(recipe.cluster)
    config = recipe.evaluate
    pool = model_pool(config.engines, config.tensor_parallel_size)
    spec = EngineSpec(
        model=str(base.resolve()),
        tokenizer=str(base.resolve()),
        device="gpu" if pool.num_gpus else "cpu",
        context=settings["context"],
        stop_ids=settings["stop_ids"],
        tensor_parallel_size=config.tensor_parallel_size,
    )
    return pool, spec


def _fleet(recipe: Recipe, pool: Pool, groups: Sequence[Group]) -> Fleet:
    timeout = recipe.cluster.stall_timeout_s
    return Fleet(groups, pool.actors, pool.num_cpus, pool.num_gpus, timeout)


def _ask_base(
    recipe: Recipe, base: Path, settings: dict[str, Any], requests: Sequence[Request]
) -> dict[Key, Completion]:
    """Answer requests with the base model alone."""
    pool, spec = _engines(recipe, base, settings)
    check_model(base)
    group = Group(spec, tuple(_chunks(BASE, None, requests, spec)))
    answers: dict[Key, Completion] = {}
    fleet = _fleet(recipe, pool, [group])
    with Progress("reword", len(requests), "text") as progress, closing(fleet.run()) as results:
        for chunk, completions in results:
            keys = [request.key for request in chunk.requests]
            answers |= dict(zip(keys, completions, strict=True))
            progress.to(len(answers), BASE)
    return answers


def _judge(
    chunk: Chunk, completions: Sequence[Completion], prompts: dict[Key, Prompt]
) -> list[Sample]:
    return [
        make_sample(prompts[request.key], completion)
        for request, completion in zip(chunk.requests, completions, strict=True)
    ]


def plan_groups(
    recipe: Recipe,
    common: EngineSpec,
    open_answers: Sequence[Answers],
    prompts: Sequence[Prompt],
) -> list[Group]:
    """Which engines answer what: base and its adapters share engines, a full model has its own.

    Raises:
        InputError: if the weights of a variant cannot be used.
    """
    chunks: dict[Path, list[Chunk]] = defaultdict(list)
    adapters: dict[Path, list[Adapter]] = defaultdict(list)
    for answers in open_answers:
        variant = answers.variant
        if variant.adapter is not None:
            checked = check_adapter(variant.name, variant.adapter.resolve(), variant.model)
            adapters[variant.model].append(checked)
        chunks[variant.model] += missing_chunks(answers, recipe, common, prompts)
    groups = []
    for model, parts in chunks.items():
        check_model(model)
        spec = replace(common, model=str(model.resolve()), adapters=tuple(adapters[model]))
        groups.append(Group(spec, tuple(parts)))
    return groups


def missing_chunks(
    answers: Answers, recipe: Recipe, common: EngineSpec, prompts: Sequence[Prompt]
) -> list[Chunk]:
    """The requests whose samples are not there yet; prompts that cannot be asked become samples."""
    requests, refused = [], []
    for prompt in prompts:
        if prompt.key in answers.samples:
            continue
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
    size = CHUNK_REQUESTS[spec.device]
    return [
        Chunk(variant, adapter, tuple(requests[i : i + size]))
        for i in range(0, len(requests), size)
    ]
