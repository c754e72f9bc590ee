"""Preflight checks of the plan: how many steps a run takes, extrapolated from a corpus sample."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from nlirg.config.corpus import DataConfig, EncodeConfig
from nlirg.config.training import TrainConfig
from nlirg.corpus.arrangement.mixing import Mixture, is_mixed, mixing_table, mixture
from nlirg.corpus.arrangement.packing import best_fit, piece_lengths
from nlirg.errors import InputError
from nlirg.forward.windows import Schedule, WindowRule
from nlirg.preflight.corpus_checks import Check
from nlirg.preflight.corpus_sample import SampledCorpus

SCHEDULED_ROWS = 20_000  # a schedule of more is extrapolated from one of these


def check_plans(
    arms: Mapping[str, TrainConfig],
    config: EncodeConfig,
    corpus: SampledCorpus,
    holdout: int,
    data: Sequence[DataConfig],
    by_source: Sequence[SampledCorpus] = (),
) -> list[Check]:
    """Check the plan of each arm, equal ones as one.

    For plain text a training row is a pack of documents.

    Args:
        arms: settings by arm.
        config: how the sample was encoded.
        corpus: the sample, with at least one usable row.
        holdout: rows kept from training for the evaluation.
        data: the recipe's sources.
        by_source: a sample of each of them, where they are mixed.
    """
    sample = corpus.sample
    scale = sample.total / len(sample.rows)
    n_trained = [len(probe.trained) for probe in corpus.probes if len(probe.trained)]
    if config.task == "cpt":
        if holdout:
            measured = f"holdout is {holdout}, and plain text asks nothing"
            return [Check("plan", "fail", measured, "set holdout to 0, and evaluate.domain")]
        n_trained = _packed([len(probe.input_ids) for probe in corpus.probes], config.pack_length)
    usable = round(len(n_trained) * scale)
    rows = len({probe.place for probe in corpus.probes if len(probe.trained)})
    holdout = round(holdout * len(n_trained) / max(rows, 1))  # a row may be several samples
    exact = sample.exact and len(sample.rows) == sample.total
    try:
        mixed = sampled_mixture(by_source or [corpus], data)
    except InputError as error:
        # What a sample does not hold may be in the corpus.
        return [Check("mixing", "fail" if exact else "warn", str(error), "correct the shares")]
    growth = mixed.tokens / max(sum(part.tokens for part in mixed.parts), 1)
    plans: dict[Check, list[str]] = {}
    for name, settings in arms.items():
        trained = np.array(n_trained, np.int64)
        more = growth / (1 - (settings.replay.share if settings.replay else 0.0))
        plan = check_plan(settings, trained, usable, holdout, exact, more)
        plans.setdefault(plan, []).append(name)
    found = [
        replace(plan, measured=f"{', '.join(names)}: {plan.measured}")
        for plan, names in plans.items()
    ]
    return [*found, *_mixing(mixed, arms, data, exact)]


def _mixing(
    mixed: Mixture, arms: Mapping[str, TrainConfig], data: Sequence[DataConfig], exact: bool
) -> list[Check]:
    """Tell how often rows are seen, where some are seen more often than others."""
    table = [*mixing_table(mixed, "" if exact else "about ")] if is_mixed(data) else []
    for name, settings in arms.items():
        if settings.replay is not None:
            table.append(f"{name}: replay {settings.replay.share:.1%} of what is trained")
    return [Check("mixing", "ok", "; ".join(table))] if table else []


def sampled_mixture(samples: Sequence[SampledCorpus], data: Sequence[DataConfig]) -> Mixture:
    """Estimate how often an epoch sees the rows of each source, replay aside.

    Args:
        samples: of the corpus, or one of each source, so that small ones are in it too.
        data: the recipe's sources.

    Raises:
        InputError: if the shares do not go together, or the samples lack what has a share.
    """
    probes, scales = [], []
    for corpus in samples:
        mine = [probe for probe in corpus.probes if len(probe.trained)]
        probes += mine
        scales += [corpus.sample.total / len(corpus.sample.rows)] * len(mine)
    types = sorted({probe.task_type for probe in probes})
    scale = np.array(scales)
    found = mixture(
        data,
        np.array([probe.data for probe in probes], np.int64),
        types,
        np.array([types.index(probe.task_type) for probe in probes], np.int64),
        np.array([len(probe.trained) for probe in probes]) * scale,
    )
    rows = np.bincount(found.of_sample, scale, minlength=len(found.parts))
    parts = (p._replace(rows=round(n)) for p, n in zip(found.parts, rows.tolist(), strict=True))
    return replace(found, parts=tuple(parts))


def _packed(lengths: Sequence[int], pack_length: int) -> list[int]:
    """Count the trained tokens of each pack of documents of these lengths."""
    pieces = [piece for length in lengths for piece in piece_lengths(length, pack_length)]
    packs = best_fit(pieces, pack_length)
    return [sum(pieces[index] - 1 for index in members) for members in packs]


def check_plan(
    config: TrainConfig,
    n_trained: np.ndarray,
    usable: int,
    holdout: int,
    exact: bool,
    more: float = 1.0,
) -> Check:
    """Extrapolate an arm's optimizer steps and trained tokens from the sample.

    Args:
        config: settings of the arm.
        n_trained: [n] trained tokens of the sample's usable rows.
        usable: rows of the corpus that can be used.
        holdout: how many of them are kept from training, beside those for validation.
        exact: whether the sample is the whole corpus.
        more: tokens that mixing and replay make of each.
    """
    kept = holdout + (config.validation.rows if config.validation else 0)
    rows, about = usable - kept, "" if exact and not kept else "about "
    if rows < 1 or not n_trained.sum():
        measured = f"no row is left to train on: {about}{usable} can be used, and {kept} are kept "
        advice = "lower holdout or train.validation.rows, or add rows to the corpus"
        return Check("plan", "fail", f"{measured}from training", advice)
    planned = np.resize(n_trained, min(rows, SCHEDULED_ROWS))
    windows = WindowRule(config.token_batch, config.reference_compat).count(planned)
    schedule = Schedule(windows, np.arange(len(planned)), config.batch_size)
    scale = more * rows / len(planned)
    steps = schedule.total_steps * scale / config.gradient_accumulation_steps
    tokens = float(planned.sum()) * scale
    limits = (config.max_steps or math.inf, (config.max_tokens or math.inf) * steps / tokens)
    total = min(steps * config.epochs, *limits)
    return Check(
        "plan",
        "ok",
        f"{about}{math.ceil(steps):,} optimizer steps and {tokens:,.0f} trained tokens per epoch "
        f"({tokens / steps:.1f} tokens a step); {math.ceil(total):,} steps in the run",
    )
