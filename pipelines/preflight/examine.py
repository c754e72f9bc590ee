"""Look at a sample of the corpus, the base model and the plan before anything runs.

All of it happens in this process, without Ray, and writes nothing: the recipe stays free to change.
"""

from __future__ import annotations

import math

from transformers.utils import logging

from nlirg.corpus.rows import shards_of
from nlirg.models.chat import End
from nlirg.models.loading import check_model, model_directory
from nlirg.preflight.corpus_checks import Check, check_corpus, check_ids, check_rows, check_template
from nlirg.preflight.corpus_sample import draw, encode_sample
from nlirg.preflight.loss_checks import check_losses
from nlirg.preflight.model_checks import check_feasibility, check_tokens_in_use, weight_shapes
from nlirg.preflight.plan_checks import check_plans
from pipelines.chat import chat_of
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
    check_model(recipe.model, chat=chat, template=recipe.template)
    encoder = chat_of(recipe)
    tokenizer = encoder.tokenizer
    directory = model_directory(recipe.model)
    shapes = weight_shapes(directory)
    arms = {name: recipe.arm(name) for name in recipe.arms}
    sample = draw(shards, recipe.data, SAMPLE_ROWS, recipe.seed, config.task)
    corpus = encode_sample(encoder, sample, config)
    probes = corpus.probes
    checks = [
        check_rows(probes, corpus.faults, sample.described()),
        check_ids(sample.read, sample.repeated),
    ]
    if probes:
        if chat:
            checks.append(check_template(corpus.notes))
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
        checks += check_plans(arms, config, corpus, recipe.holdout)
    return checks + check_feasibility(arms, recipe.model)
