"""Losses and KL(base || tuned) of every variant, one Ray task each, kept in its folder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from cluster.rundir import RunDirectory, fingerprint
from eval.cases.general import general_passages
from eval.generation.generate import Device
from eval.metrics.definition import Measure
from eval.metrics.perplexity import (
    KINDS,
    Kind,
    Text,
    TextDivergence,
    divergence_measures,
    domain_texts,
    general_texts,
)
from eval.schema.case import Case, Strict
from nlirg.errors import InputError
from pipelines.chat import chat_of
from pipelines.evaluate.answers import Variant
from pipelines.evaluate.variant_tasks import Kept, keep, read_kept, run_each
from pipelines.progress import say
from pipelines.recipe import Recipe

FILE = "perplexity.json"


class KindSummary(Strict):
    """Means over all tokens of one kind of text, in nats; perplexities are e to the losses."""

    texts: int
    tokens: int
    base_loss: float
    base_perplexity: float
    loss: float
    perplexity: float
    kl: float


class Divergences(Kept):
    """One variant's `perplexity.json`."""

    summary: dict[Kind, KindSummary]
    texts: list[TextDivergence]


def measure_perplexity(
    recipe: Recipe,
    run: RunDirectory,
    variants: Sequence[Variant],
    cases: Sequence[Case],
    context: int,
) -> None:
    """Measure every tuned variant that is not measured yet, into `eval/<variant>/perplexity.json`.

    Args:
        recipe: `evaluate.perplexity` says whether, `evaluate.general` on which general text.
        run: where the results are kept.
        variants: the base model first.
        cases: of which those of the domain are read, where they have a reference.
        context: tokens that the base model can read.

    Raises:
        InputError: if there is no text, or a model cannot be loaded or gives NaN.
    """
    base, *tuned = variants
    if not recipe.evaluate.perplexity or not tuned:
        return
    texts = _texts(recipe, cases, context)
    asked = [[text.sha256 for text in texts], base.identity]
    marks = {variant.name: fingerprint([*asked, variant.identity]) for variant in tuned}
    missing = [v for v in tuned if _read(run, v.name, marks[v.name]) is None]
    if not missing:
        return
    for variant, found in run_each(recipe, "perplexity", missing, _measure, base, texts):
        kinds = {kind: [text for text in found if text.kind == kind] for kind in KINDS}
        summary = {kind: _summary(rows) for kind, rows in kinds.items() if rows}
        mark = marks[variant.name]
        keep(_path(run, variant.name), Divergences(fingerprint=mark, summary=summary, texts=found))


def perplexity_measures(recipe: Recipe, run: RunDirectory) -> list[Measure]:
    """What was measured, for the comparison of the recipe's arms; none where it was not asked.

    Raises:
        InputError: if an arm was not measured, or on other texts than the others.
    """
    if not recipe.evaluate.perplexity:
        return []
    found = {}
    for arm in recipe.arms:
        kept = _read(run, arm)
        if kept is None:
            raise InputError(f"{_path(run, arm)}: missing; evaluate this run first")
        found[arm] = kept.texts
    return divergence_measures(found)


def _texts(recipe: Recipe, cases: Sequence[Case], context: int) -> list[Text]:
    """References of the domain cases and general text, as the base model's tokens."""
    chat = chat_of(recipe)
    domain = [case for case in cases if case.suite == "domain"]
    texts = domain_texts(chat, domain, context)
    if len(texts) < len(domain):
        left_out = len(domain) - len(texts)
        say("perplexity", f"{left_out} of {len(domain)} domain cases have no reference that fits")
    return texts + general_texts(chat.tokenizer, general_passages(recipe.evaluate.general), context)


def _measure(
    variant: Variant, device: Device, base: Variant, texts: Sequence[Text]
) -> list[TextDivergence]:
    """Load a variant with its base and measure it; runs in a process of its own."""
    import torch

    from eval.metrics.model_pair import ModelPair

    adapter = None if variant.adapter is None else str(variant.adapter.resolve())
    try:
        pair = ModelPair(str(base.model.resolve()), str(variant.model.resolve()), adapter, device)
        return pair.measure(texts)
    except torch.OutOfMemoryError:
        raise InputError(
            f"{variant.name}: with its base it does not fit one GPU; set evaluate.perplexity=false"
        ) from None


def _path(run: RunDirectory, variant: str) -> Path:
    return run.evaluation(variant).path / FILE


def _read(run: RunDirectory, variant: str, mark: str | None = None) -> Divergences | None:
    return read_kept(_path(run, variant), Divergences, mark)


def _summary(rows: Sequence[TextDivergence]) -> KindSummary:
    tokens = sum(row.tokens for row in rows)
    base_loss = sum(row.tokens * row.base_loss for row in rows) / tokens
    loss = sum(row.tokens * row.loss for row in rows) / tokens
    return KindSummary(
        texts=len(rows),
        tokens=tokens,
        base_loss=base_loss,
        base_perplexity=math.exp(base_loss),
        loss=loss,
        perplexity=math.exp(loss),
        kl=sum(row.tokens * row.kl for row in rows) / tokens,
    )
