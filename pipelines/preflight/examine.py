"""Look at a sample of the corpus, the base model and the plan before anything runs.

All of it happens in this process, without Ray, and writes nothing: the recipe stays free to change.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from transformers.utils import logging

from eval.generation.adapters import Adapter
from eval.generation.serving import adapter_obstacle, require_engine
from nlirg.config.training import LoraConfig, TrainConfig
from nlirg.corpus.arrangement.mixing import is_mixed
from nlirg.errors import InputError
from nlirg.models.chat import End
from nlirg.models.loading import model_directory, model_skeleton
from nlirg.models.lora import adapted_layers
from nlirg.preflight.corpus_checks import Check, check_corpus, check_ids, check_rows, check_template
from nlirg.preflight.loss_checks import check_losses
from nlirg.preflight.model_checks import check_feasibility, check_tokens_in_use, weight_shapes
from nlirg.preflight.plan_checks import check_plans
from pipelines.chat import chat_of
from pipelines.preflight.mixing import sampled, sampled_sources
from pipelines.recipe import Recipe


def examine(recipe: Recipe) -> list[Check]:
    """Carry out every check that makes sense for the recipe's task.

    Raises:
        InputError: if the corpus or the model cannot be read at all.
    """
    logging.disable_progress_bar()
    logging.set_verbosity_error()  # it warns of the long samples that are counted here
    config, chat = recipe.encode, recipe.encode.task == "sft"
    corpus = sampled(recipe)
    sample, encoder = corpus.sample, chat_of(recipe)
    tokenizer = encoder.tokenizer
    directory = model_directory(recipe.model)
    shapes = weight_shapes(directory)
    arms = {name: recipe.arm(name) for name in recipe.arms}
    probes = corpus.probes
    checks = [
        check_rows(
            probes, corpus.faults, sample.described(), recipe.score.max_bad_rows, sample.total
        ),
        check_ids(sample.read, sample.repeated),
    ]
    if probes:
        if chat:
            checks.append(check_template(corpus.notes, encoder.template.foreign_markers))
        ends = End.of(encoder, config)
        checks += check_corpus(config, tokenizer, probes, ends)
        checks.append(check_tokens_in_use(tokenizer, directory, shapes, probes, arms))
        checks += check_losses(
            recipe.model,
            recipe.score.precision,
            sum(math.prod(shape) for shape in shapes.values()),
            config,
            probes,
            ends,
            arms,
            recipe.seed,
        )
        several = is_mixed(recipe.data) and len(recipe.data) > 1
        by_source = sampled_sources(recipe) if several else ()
        checks += check_plans(arms, config, corpus, recipe.holdout, recipe.data, by_source)
    checks += check_feasibility(arms, recipe.model)
    return [*checks, check_engine(recipe, arms, directory)]


def check_engine(recipe: Recipe, arms: Mapping[str, TrainConfig], base: Path) -> Check:
    """Check whether the engine that is to evaluate the model can run it.

    Args:
        recipe: names the engine.
        arms: settings by arm.
        base: the model's directory.
    """
    config = recipe.evaluate
    told = f"{config.engine} can run the model"
    if config.engine == "vllm" or config.lm_eval:
        try:
            require_engine(base, recipe.model)
        except InputError as error:
            return Check("evaluation", "fail", str(error), "correct it before training")
        for name, arm in arms.items():
            if arm.lora is not None and (reason := _why_merged(arm.lora, base)):
                told += f"; {name} is merged into it for that ({reason})"
    return Check("evaluation", "ok", told)


def _why_merged(config: LoraConfig, base: Path) -> str:
    """Say why vLLM cannot serve the adapter that will be trained; empty if it can."""
    try:
        layers = adapted_layers(model_skeleton(str(base)), config, str(base))
    except InputError:
        return ""  # another check says so
    ends = tuple({layer.rpartition(".")[2] for layer in layers})
    return adapter_obstacle(Adapter("", "", config.rank, ends), base)
