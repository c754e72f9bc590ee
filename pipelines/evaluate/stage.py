"""Evaluation: base and every arm answer the same prompts; the answers are judged."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError
from transformers import AutoConfig

from cluster.rundir import RunDirectory
from eval.cases.general import general_passages
from eval.cases.sources import ood_cases
from eval.cases.suites import holdout_cases, limit, load_cases, robustness_cases
from eval.cases.suites import template_cases as sampled_cases
from eval.config import EvaluateConfig
from eval.generation.adapters import weights_hash
from eval.generation.generate import Prompt, refusal, render
from eval.harness.tasks import check_tasks
from eval.schema.case import SUITES, Case, Suite
from eval.verdict.gates import require_cases
from nlirg.corpus.records import Record
from nlirg.errors import InputError, first_line
from nlirg.models.end_tokens import stop_ids
from nlirg.models.loading import context_length, load_tokenizer, model_directory
from pipelines.evaluate.answers import Variant
from pipelines.evaluate.flips import resample_flips
from pipelines.evaluate.generation import BASE, Generation
from pipelines.evaluate.judge import judge_answers
from pipelines.evaluate.lm_tasks import HARNESS_CONTEXT, run_lm_eval
from pipelines.evaluate.paraphrases import model_paraphrases
from pipelines.evaluate.perplexity import measure_perplexity
from pipelines.progress import say
from pipelines.recipe import Recipe

# What of the section decides the answers; the rest says how to judge them or where to compute.
ANSWER_KEYS = {"engine", "max_prompt_tokens", "max_new_tokens", "template_temperature"}
WANTED_SAMPLED = 200  # answers, for the metrics of sameness


def evaluate(recipe: Recipe, run: RunDirectory) -> dict[str, Any]:
    """Answer and judge every case with base and every arm, into `eval/<variant>/`.

    Answers are kept as they come; an interrupted evaluation goes on with the missing ones.

    Returns:
        variants (name -> suites -> n, errors, mean_score, accuracy, stop_rate, runaway_rate,
        tokens, cases_hash; and identity), answered, tokens, seconds and replaced (engines) of
        this call.

    Raises:
        InputError: if there are no cases, an arm is not trained, its files cannot be used, or the
            engines fail.
    """
    started = time.monotonic()
    base = model_directory(recipe.model)
    tokenizer = load_tokenizer(recipe.model)
    generation = Generation(recipe, base, _settings(recipe, base, tokenizer))
    variants = find_variants(recipe, run, base)
    cases = evaluation_cases(recipe, run)
    if recipe.evaluate.model_paraphrases:
        cases += model_paraphrases(
            recipe,
            run,
            tokenizer,
            [case for case in cases if case.suite == "domain"],
            base=variants[0].identity,
            context=generation.settings["context"],
            ask=generation.ask_base,
        )
    _tell_few_sampled(cases)
    prompts = render(tokenizer, cases, dict(recipe.encode.template_options))
    for told in _require_answerable(prompts, recipe.evaluate, generation.settings["context"]):
        say("evaluate", told)
    asked = [(variant, run.evaluation(variant.name), prompts) for variant in variants]
    work = generation.answer(asked, "evaluate")
    if recipe.evaluate.flip_samples:
        work += resample_flips(generation, run, variants, prompts)
    context = generation.settings["context"]
    measure_perplexity(recipe, run, variants, cases, context)
    run_lm_eval(recipe, run, variants, _context(base, HARNESS_CONTEXT))
    judge_answers(recipe, run, BASE, cases)
    summaries = {variant.name: run.evaluation(variant.name).summary() for variant in variants}
    return {"variants": summaries, **asdict(work), "seconds": time.monotonic() - started}


def _tell_few_sampled(cases: Sequence[Case]) -> None:
    sampled = sum(case.suite == "template" for case in cases)
    if sampled < WANTED_SAMPLED:
        say(
            "evaluate",
            f"{sampled} sampled answers show only a plain parrot, {WANTED_SAMPLED} are wanted: "
            "raise evaluate.template_cases or evaluate.max_cases",
        )


def _settings(recipe: Recipe, base: Path, tokenizer: Any) -> dict[str, Any]:
    """What decides the answers, beside the prompts and the weights."""
    config = recipe.evaluate
    return {
        **config.model_dump(mode="json", include=ANSWER_KEYS),
        "context": _context(base, config.max_prompt_tokens + config.max_new_tokens),
        "stop_ids": stop_ids(tokenizer, dict(recipe.encode.template_options)),
        "seed": recipe.seed,
    }


def check_cases(recipe: Recipe) -> None:
    """Read the case files, so that a fault in them is told before anything is trained.

    Raises:
        InputError: if a file is missing or wrong, there is nothing to evaluate on, a gate needs
            out-of-domain cases that are not there, `lm_eval` or a task of it is not, or a suite's
            prompts are too few or do not fit the model (where its files are on this machine; one
            that is still to be fetched is looked at by `check_prompts` before training).
    """
    config = recipe.evaluate
    if config.domain is None and not recipe.holdout:
        raise InputError(
            "nothing to evaluate on: set evaluate.domain to a file of cases, or holdout to a "
            "number of rows to keep from training"
        )
    domain = [] if config.domain is None else load_cases(config.domain, "domain")
    if config.perplexity:
        general_passages(config.general)
    if config.lm_eval:
        check_tasks(config.lm_eval)
    ood = ood_cases(config.ood, config.max_cases, recipe.seed)
    require_cases(config.gates, ood)
    if config.domain is None:
        held_out = min(recipe.holdout, config.max_cases or recipe.holdout)
        _require_pairs("domain", range(held_out), config)
        cases = ood
    else:
        cases = _with_domain(recipe, domain) + ood
    if _at_hand(recipe.model):
        check_prompts(recipe, cases)


def _at_hand(model: str) -> bool:
    """Whether a model need not be fetched, which takes long and is left to the stages."""
    if Path(model).expanduser().is_dir():
        return True
    try:
        return isinstance(try_to_load_from_cache(model, "config.json"), str)
    except HFValidationError:  # a path that is not there; its own check says so
        return False


def check_prompts(recipe: Recipe, cases: Sequence[Case]) -> None:
    """Check that cases can be asked and compared; their prompts are rendered for that.

    Raises:
        InputError: if more prompts of a suite do not fit the model than may be errors, or what is
            left of one are fewer than two independent cases.
    """
    config = recipe.evaluate
    tokenizer, base = load_tokenizer(recipe.model), model_directory(recipe.model)
    context = _settings(recipe, base, tokenizer)["context"]
    prompts = render(tokenizer, cases, dict(recipe.encode.template_options))
    _require_answerable(prompts, config, context)
    for suite in SUITES:
        asked = [prompt for prompt in prompts if prompt.case.suite == suite]
        if asked:
            fitting = [prompt.case for prompt in asked if not refusal(prompt, config, context)]
            _require_pairs(suite, [case.root_id or case.id for case in fitting], config)


def _require_pairs(suite: Suite, roots: Iterable[object], config: EvaluateConfig) -> None:
    """Refuse a suite that no interval can be given for."""
    if suite == "robustness" and config.model_paraphrases:
        return  # how many of them there will be is not known yet
    if (count := len(set(roots))) < 2:
        keys = {
            "domain": "evaluate.domain or holdout",
            "robustness": "evaluate.perturbations",
            "template": "evaluate.template_cases",
            "ood": "evaluate.ood",
        }
        raise InputError(
            f"suite {suite!r} has {count} independent case(s) that can be asked, and a comparison "
            f"needs two or more: give more ({keys[suite]}"
            + (", evaluate.max_cases)" if config.max_cases is not None else ")")
            + "; cases with one root_id count as one"
        )


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
    return _with_domain(recipe, domain) + ood_cases(config.ood, config.max_cases, seed)


def _with_domain(recipe: Recipe, cases: Sequence[Case]) -> list[Case]:
    """The domain cases that are asked, and those made from them."""
    config, seed = recipe.evaluate, recipe.seed
    domain = limit(cases, config.max_cases, seed)
    sampled = min(config.template_cases, config.max_cases or config.template_cases)
    return [
        *domain,
        *robustness_cases(domain, config.perturbations, seed),
        *sampled_cases(domain, sampled, seed),
    ]


def _held_out(path: Path) -> list[Record]:
    """Rows that encoding kept from training."""
    content = path.read_bytes() if path.is_file() else b""
    if not content:
        raise InputError(
            "nothing to evaluate on: set evaluate.domain to a file of cases, or holdout to a "
            "number of rows and run encode"
        )
    try:
        return [Record(**json.loads(line)) for line in content.split(b"\n") if line]
    except (ValueError, TypeError, RecursionError):
        raise InputError(
            f"{path}: damaged; delete it and {path.parent / 'encoded'}, and run encode again"
        ) from None


def _context(base: Path, wanted: int) -> int:
    """Tokens of prompt and answer together: as many as wanted, if the model can hold them."""
    try:
        limit = context_length(AutoConfig.from_pretrained(base, local_files_only=True))
    except (OSError, ValueError) as error:
        raise InputError(
            f"model {base}: cannot read its config.json: {first_line(error)}"
        ) from None
    return wanted if limit is None else min(wanted, limit)


def _require_answerable(
    prompts: Sequence[Prompt], config: EvaluateConfig, context: int
) -> list[str]:
    """Refuse suites with more refused prompts than may be errors; the others' are told."""
    notes = []
    for suite in SUITES:
        asked = [refusal(p, config, context) for p in prompts if p.case.suite == suite]
        refused = list(filter(None, asked))
        told = f"suite {suite!r}: {len(refused)} of {len(asked)} prompts cannot be answered"
        if len(refused) > config.max_error_share * len(asked):
            raise InputError(
                f"{told}, more than evaluate.max_error_share={config.max_error_share:g} allows; "
                f"the first: {refused[0]}"
            )
        if refused:
            notes.append(f"{told}; see `error`")
    return notes


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
