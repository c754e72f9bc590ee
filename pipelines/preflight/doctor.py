"""The preflight: look at a sample of the corpus, the base model and the plan before anything runs.

All of it happens in this process, without Ray, and writes nothing: the recipe stays free to change.
"""

from __future__ import annotations

import math
import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Group
from rich.table import Table
from rich.text import Text

from nlirg.config.corpus import EncodeConfig
from nlirg.config.training import TrainConfig
from nlirg.corpus.chat import special_tokens
from nlirg.corpus.packing import best_fit, piece_lengths
from nlirg.corpus.rows import shards_of
from nlirg.errors import InputError
from nlirg.models.end_tokens import End
from nlirg.preflight import corpus_checks, model_checks
from nlirg.preflight.corpus_checks import Check, Probe, trained_tokens
from nlirg.weighting.weightings import NlirgWeighting
from pipelines.preflight.sample import Corpus, draw, encode_sample
from pipelines.recipe import Recipe

SAMPLE_ROWS = 200


CPU_WORK = 1e12  # parameters times tokens that a CPU scores within a minute


MIN_SCORED = 8  # samples; fewer say nothing


SHARE_OF_MEMORY = 0.6  # that the weights may take of this machine's


LOSS = "base model's loss"


COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


def _affordable(parameters: int, precision: str, lengths: Sequence[int]) -> int:
    """How many of the samples this machine scores within about a minute."""
    import torch

    if torch.accelerator.is_available():
        return len(lengths)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if parameters * (4 if precision == "fp32" else 2) > SHARE_OF_MEMORY * memory:
        return 0
    return int(np.searchsorted(np.cumsum(lengths), CPU_WORK / parameters, side="right"))


def _limit(config: EncodeConfig) -> int:
    return config.pack_length if config.task == "cpt" else config.max_length


def examine(recipe: Recipe) -> list[Check]:
    """Carry out every check that makes sense for the recipe's task.

    Raises:
        InputError: if the corpus or the model cannot be read at all.
    """
    from transformers.utils import logging

    from nlirg.models.loading import check_model, load_tokenizer, model_directory

    logging.disable_progress_bar()
    logging.set_verbosity_error()  # it warns of the long samples that are counted here
    shards = shards_of(recipe.data, recipe.encode.task)
    chat = recipe.encode.task == "sft"
    check_model(recipe.model, chat=chat)
    tokenizer = load_tokenizer(recipe.model, chat=chat)
    directory = model_directory(recipe.model)
    shapes = model_checks.weight_shapes(directory)
    arms = {name: recipe.arm(name) for name in recipe.arms}
    sample = draw(shards, recipe.data, SAMPLE_ROWS, recipe.seed)
    corpus = encode_sample(tokenizer, sample, recipe.encode)
    rows = corpus_checks.check_rows(corpus.probes, corpus.faults, corpus.sample.described())
    checks = [rows]
    if corpus.probes:
        ends = End.of(tokenizer, directory, recipe.encode)
        checks += _corpus_checks(recipe.encode, tokenizer, corpus.probes, ends)
        checks.append(_special_tokens(tokenizer, directory, shapes, corpus.probes, arms))
        parameters = sum(math.prod(shape) for shape in shapes.values())
        checks += _loss_checks(recipe, corpus.probes, parameters, ends, arms)
        checks += _plans(recipe, corpus, arms)
    return checks + _feasibility(arms, recipe.model)


def _corpus_checks(
    config: EncodeConfig, tokenizer: Any, probes: Sequence[Probe], ends: End
) -> list[Check]:
    limit = _limit(config)
    checks = [corpus_checks.check_lengths(probes, limit)]
    if config.task == "sft":
        checks.append(corpus_checks.check_truncation(probes, limit))
        checks.append(
            corpus_checks.check_end_of_turn(probes, limit, ends.turn, ends.stops, ends.names)
        )
    return [
        *checks,
        corpus_checks.check_round_trip(probes),
        corpus_checks.check_vocabulary(probes, tokenizer.unk_token_id),
        corpus_checks.check_duplicates(probes, "answers" if config.task == "sft" else "documents"),
    ]


def _special_tokens(
    tokenizer: Any,
    directory: Path,
    shapes: Mapping[str, tuple[int, ...]],
    probes: Sequence[Probe],
    arms: Mapping[str, TrainConfig],
) -> Check:
    special = special_tokens(tokenizer)
    seen = np.unique(np.concatenate([probe.input_ids for probe in probes])).tolist()
    texts = {token: tokenizer.convert_ids_to_tokens(token) for token in seen}
    names = {token: text for token, text in texts.items() if special.fullmatch(text)}
    embedding = model_checks.read_embedding(directory, shapes)
    frozen = [name for name, config in arms.items() if config.lora is not None]
    kept = None if embedding is None else embedding[: len(tokenizer)]
    return model_checks.check_special_tokens(kept, names, frozen)


def _loss_checks(
    recipe: Recipe,
    probes: Sequence[Probe],
    parameters: int,
    ends: End,
    arms: Mapping[str, TrainConfig],
) -> list[Check]:
    """What the base model makes of the trained tokens, of as many samples as is quick."""
    limit, precision = _limit(recipe.encode), recipe.score.precision
    usable = [probe for probe in probes if len(probe.trained)]
    usable = random.Random(recipe.seed).sample(usable, len(usable))
    lengths = [min(len(probe.input_ids), limit) for probe in usable]
    count = _affordable(parameters, precision, lengths)
    if count < min(MIN_SCORED, len(usable)):
        measured = f"not measured: {parameters / 1e9:.1f} billion parameters are too many here"
        advice = "run it where the base model fits, to see whether NLIRG suits the corpus"
        return [Check(LOSS, "warn", measured, advice)]
    samples = [(probe.input_ids[:limit], probe.labels[:limit]) for probe in usable[:count]]
    if not samples:
        return []
    try:
        losses = _score(recipe, samples, [probe.place for probe in usable])
    except InputError as error:
        return [Check(LOSS, "fail", str(error), "use a base model whose weights are whole")]
    weighting, users = _nlirg(arms)
    loss = np.concatenate(losses)
    checks = [
        corpus_checks.check_zones(loss, len(samples), weighting),
        corpus_checks.check_suitability(loss, weighting, users),
    ]
    if recipe.encode.task == "sft":
        tokens = np.concatenate([trained_tokens(labels) for _, labels in samples])
        checks.append(corpus_checks.check_end_loss(loss, tokens, ends.turn, weighting, users))
    return checks


def _score(
    recipe: Recipe, samples: Sequence[tuple[np.ndarray, np.ndarray]], names: Sequence[str]
) -> list[np.ndarray]:
    """Losses [n_i] of each sample's trained tokens."""
    from nlirg.scoring.scorer import Scorer

    scored = Scorer(recipe.model, recipe.score.precision).score(samples, names)
    return [tokens.loss for tokens in scored]


def _nlirg(arms: Mapping[str, TrainConfig]) -> tuple[NlirgWeighting, list[str]]:
    """NLIRG's breakpoints in the first arm that uses it (the defaults if none), and those arms."""
    users = [name for name, config in arms.items() if config.weighting.name == "nlirg"]
    if not users:
        return NlirgWeighting(), []
    weighting = arms[users[0]].weighting
    assert isinstance(weighting, NlirgWeighting)
    return weighting, users


def _plans(recipe: Recipe, corpus: Corpus, arms: Mapping[str, TrainConfig]) -> list[Check]:
    """The plan of each arm, equal ones as one; for CPT a training row is a pack of documents."""
    sample = corpus.sample
    scale = sample.total / len(sample.rows)
    n_trained = [len(p.trained) for p in corpus.probes if len(p.trained)]
    usable = round(len(n_trained) * scale)
    if recipe.encode.task == "cpt":
        if recipe.holdout:
            measured = f"holdout is {recipe.holdout}, and plain text asks nothing"
            return [Check("plan", "fail", measured, "set holdout to 0, and evaluate.domain")]
        n_trained = _packed([len(p.input_ids) for p in corpus.probes], recipe.encode.pack_length)
        usable = round(len(n_trained) * scale)
    exact = sample.exact and len(sample.rows) == sample.total
    plans: dict[Check, list[str]] = {}
    for name, config in arms.items():
        counts = np.array(n_trained, np.int64)
        plan = model_checks.check_plan(config, counts, usable, recipe.holdout, exact)
        plans.setdefault(plan, []).append(name)
    return [
        replace(plan, measured=f"{', '.join(names)}: {plan.measured}")
        for plan, names in plans.items()
    ]


def _packed(lengths: Sequence[int], pack_length: int) -> list[int]:
    """Trained tokens of each pack of documents of these lengths."""
    pieces = [piece for length in lengths for piece in piece_lengths(length, pack_length)]
    packs = best_fit(pieces, pack_length)
    return [sum(pieces[index] - 1 for index in members) for members in packs]


def _feasibility(arms: Mapping[str, TrainConfig], name: str) -> list[Check]:
    import torch

    from nlirg.models.loading import model_skeleton

    device = torch.accelerator.current_accelerator(check_available=True)
    bf16 = torch.cuda.is_bf16_supported() if device and device.type == "cuda" else True
    model = model_skeleton(name)
    lora = model_checks.check_lora(arms, model, name)
    if lora is not None and lora.status == "fail":
        return [lora]  # memory depends on the layers that could not be found
    checks = [
        model_checks.check_memory(arms, model),
        lora,
        model_checks.check_precision(arms, device.type if device else "cpu", bf16),
    ]
    return [check for check in checks if check is not None]


def table(checks: Sequence[Check]) -> Group:
    """One row a check: its status, what was measured, and below that what to do."""
    rows = Table(header_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    rows.add_column("", no_wrap=True)
    rows.add_column("check", no_wrap=True)
    rows.add_column("found", overflow="fold")  # a path must not lose its end
    for check in checks:
        found = Text(check.measured)
        if check.advice:
            found.append(f"\n→ {check.advice}", style=COLOURS[check.status])
        rows.add_row(Text(check.status, style=COLOURS[check.status]), Text(check.name), found)
    return Group(rows, Text(), verdict(checks))


def verdict(checks: Sequence[Check]) -> Text:
    """One line: how many checks failed or warn."""
    failed, warned = (sum(check.status == kind for check in checks) for kind in ("fail", "warn"))
    if failed:
        return Text(f"{failed} failed, {warned} to look at: correct what failed first", style="red")
    if warned:
        return Text(f"nothing failed, {warned} to look at", style="yellow")
    return Text("nothing failed: the run can start", style="green")
