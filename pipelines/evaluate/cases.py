"""The cases of a run, and what can be refused about them before anything is trained."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
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
from eval.generation.generate import Prompt, refusal, render
from eval.generation.serving import require_engine
from eval.harness.tasks import check_tasks
from eval.schema.case import SUITES, Case, Suite
from eval.verdict.gates import require_cases
from nlirg.corpus.records import Record
from nlirg.errors import InputError, first_line
from nlirg.models.chat import stop_ids
from nlirg.models.loading import context_length, model_directory
from pipelines.chat import chat_of
from pipelines.recipe import Recipe

# What of the section decides the answers; the rest says how to judge them or where to compute.
ANSWER_KEYS = {"engine", "max_prompt_tokens", "max_new_tokens", "template_temperature"}


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
    require_cases(config.gates, ood, limited=config.max_cases is not None)
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
        InputError: if the installed vLLM cannot run the model, more prompts of a suite do not fit
            the model than may be errors, or what is left of one are fewer than two independent
            cases.
    """
    config = recipe.evaluate
    base = model_directory(recipe.model)
    if config.engine == "vllm" or config.lm_eval:
        require_engine(base, recipe.model)
    context = answer_settings(recipe, base)["context"]
    prompts = render(chat_of(recipe), cases)
    require_answerable(prompts, config, context)
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
            "robustness": "evaluate.domain or holdout, evaluate.perturbations",
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


def require_answerable(
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


def answer_settings(recipe: Recipe, base: Path) -> dict[str, Any]:
    """What decides the answers, beside the prompts and the weights."""
    config = recipe.evaluate
    return {
        **config.model_dump(mode="json", include=ANSWER_KEYS),
        "context": context_tokens(base, config.max_prompt_tokens + config.max_new_tokens),
        "stop_ids": stop_ids(chat_of(recipe)),
        "seed": recipe.seed,
    }


def context_tokens(base: Path, wanted: int) -> int:
    """Tokens of prompt and answer together: as many as wanted, if the model can hold them."""
    try:
        limit = context_length(AutoConfig.from_pretrained(base, local_files_only=True))
    except (OSError, ValueError) as error:
        reason = first_line(error)
        raise InputError(f"model {base}: cannot read its config.json: {reason}") from None
    return wanted if limit is None else min(wanted, limit)
