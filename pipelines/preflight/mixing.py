"""How often each source will be seen, told before anything is trained."""

from __future__ import annotations

from collections.abc import Iterator

from cluster.rundir import RunDirectory
from nlirg.corpus.arrangement.mixing import mixing_table
from nlirg.corpus.rows import shards_of
from nlirg.errors import InputError
from nlirg.models.loading import check_model
from nlirg.preflight.corpus_sample import SampledCorpus, draw, encode_sample
from nlirg.preflight.plan_checks import sampled_mixture
from pipelines.chat import chat_of
from pipelines.recipe import Recipe
from pipelines.train.data import asks_for_mixing, planned_mixture

SAMPLE_ROWS = 200


def sampled(recipe: Recipe) -> SampledCorpus:
    """Draw and encode a sample of the corpus in this process.

    Raises:
        InputError: if the corpus or the model cannot be read at all.
    """
    config = recipe.encode
    check_model(recipe.model, chat=config.task == "sft", template=recipe.template)
    shards = shards_of(recipe.data, config.task)
    sample = draw(shards, recipe.data, SAMPLE_ROWS, recipe.seed, config.task)
    return encode_sample(chat_of(recipe), sample, config)


def sampled_sources(recipe: Recipe) -> list[SampledCorpus]:
    """Draw and encode a sample of each source; a small one beside a large one is not missed.

    Raises:
        InputError: if the corpus or the model cannot be read at all.
    """
    config, chat = recipe.encode, chat_of(recipe)
    shards = shards_of(recipe.data, config.task)
    of_source = [[s for s in shards if s.data == index] for index in range(len(recipe.data))]
    return [
        encode_sample(chat, draw(mine, recipe.data, SAMPLE_ROWS, recipe.seed, config.task), config)
        for mine in of_source
        if mine
    ]


def mixing_lines(recipe: Recipe, run: RunDirectory) -> Iterator[str]:
    """Yield for every arm that mixes how often an epoch sees the rows of each source.

    It is exact once the corpus is encoded, and estimated from a sample before.

    Raises:
        InputError: if a share cannot be met.
    """
    arms = {name: recipe.arm(name) for name in recipe.arms}
    mixing = {name: arm for name, arm in arms.items() if asks_for_mixing(recipe.data, arm)}
    if not mixing:
        return
    encoded = run.encoded.marker.is_file()
    estimate = [] if encoded else sampled_sources(recipe)
    whole = all(
        each.sample.exact and len(each.sample.rows) == each.sample.total for each in estimate
    )
    about = "" if whole else "about "
    for name, arm in mixing.items():
        try:
            mixed = (
                sampled_mixture(estimate, recipe.data)
                if estimate
                else planned_mixture(recipe, run, arm)
            )
        except InputError as error:
            if whole:
                raise
            yield f"{name}: a sample does not tell: {error}"  # the corpus may hold what it lacks
            continue
        for line in mixing_table(mixed, about):
            yield f"{name}: {line}"
        if arm.replay is not None and not run.replay.marker.is_file():
            share = arm.replay.share
            tokens = mixed.tokens * share / (1 - share)
            yield f"{name}: replay  {tokens:,.0f} tokens an epoch, {share:.1%} of what is trained"
