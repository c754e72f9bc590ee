"""Look at a sample of the corpus, the base model and the plan before anything runs.

All of it happens in this process, without Ray, and writes nothing: the recipe stays free to change.
"""

from __future__ import annotations

import math
from pathlib import Path

from transformers.utils import logging

from eval.config import EvaluateConfig
from eval.generation.serving import require_engine
from nlirg.corpus.rows import shards_of
from nlirg.errors import InputError
from nlirg.models.end_tokens import End
from nlirg.models.loading import check_model, load_tokenizer, model_directory
from nlirg.preflight.corpus_checks import Check, check_corpus, check_rows
from nlirg.preflight.corpus_sample import draw, encode_sample
from nlirg.preflight.loss_checks import check_losses
from nlirg.preflight.model_checks import check_feasibility, check_tokens_in_use, weight_shapes
from nlirg.preflight.plan_checks import check_plans
from pipelines.recipe import Recipe

SAMPLE_ROWS = 200


def examine(recipe: Recipe) -> list[Check]:
    """Carry out every check that makes sense for the recipe's task.

    Raises:
        InputError: if the corpus or the model cannot be read at all.
    """
    logging.disable_progress_bar()
    logging.set_verbosity_error()  # it warns of the long samples that are counted here
    config, chat = recipe.encode, recipe.encode.task == "sft"
    shards = shards_of(recipe.data, config.task)
    check_model(recipe.model, chat=chat)
    tokenizer = load_tokenizer(recipe.model, chat=chat)
    directory = model_directory(recipe.model)
    shapes = weight_shapes(directory)
    arms = {name: recipe.arm(name) for name in recipe.arms}
    corpus = encode_sample(tokenizer, draw(shards, recipe.data, SAMPLE_ROWS, recipe.seed), config)
    probes = corpus.probes
    checks = [check_rows(probes, corpus.faults, corpus.sample.described())]
    if probes:
        ends = End.of(tokenizer, directory, config)
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
        checks += check_plans(arms, config, corpus, recipe.holdout)
    checks += check_feasibility(arms, recipe.model)
    return [*checks, check_engine(recipe.evaluate, directory, recipe.model)]


def check_engine(config: EvaluateConfig, base: Path, name: str) -> Check:
    """Check whether the engine that is to evaluate the model can run it.

    Args:
        config: names the engine.
        base: the model's directory.
        name: what the recipe calls it.
    """
    if config.engine == "vllm" or config.lm_eval:
        try:
            require_engine(base, name)
        except InputError as error:
            return Check("evaluation", "fail", str(error), "correct it before training")
    return Check("evaluation", "ok", f"{config.engine} can run the model")
