"""Preflight checks of the base model's losses on a corpus sample: does NLIRG suit the corpus?

As in `nlirg.preflight.corpus_checks`, bounds are judgement.
"""

from __future__ import annotations

import os
import random
from collections.abc import Collection, Mapping, Sequence
from typing import Literal

import numpy as np
import torch

from nlirg.config.corpus import EncodeConfig
from nlirg.config.training import TrainConfig
from nlirg.errors import InputError
from nlirg.models.chat import End
from nlirg.preflight.corpus_checks import (
    MAKE_ROOM,
    Check,
    Probe,
    length_limit,
    percent,
    trained_tokens,
)
from nlirg.scoring.scorer import Scorer
from nlirg.weighting.weightings import NlirgWeighting
from nlirg.weighting.zones import ZONES, zone_shares

LOSS = "base model's loss"  # the check that says whether losses could be measured
HARD_SHARE = 0.5  # high and discarded tokens: above it the template or the language is not known
EASY_SHARE = 0.9  # low tokens: above it there is little to learn
LITTLE_WEIGHT = 0.1  # mean weight below which NLIRG trains next to nothing
END_WEIGHT = 0.05  # an end token below this weight is not learned ...
END_SHARE = 0.5  # ... and more than this share of them must not be

CPU_WORK = 1e12  # parameters times tokens that a CPU scores within a minute
MIN_SCORED = 8  # samples; fewer say nothing
SHARE_OF_MEMORY = 0.6  # that the weights may take of this machine's

TEACH_END = (
    "NLIRG would not teach the model to stop: use a base model that knows this template's end "
    "token, train uniform first, or raise hard_x0 and loss_deadline"
)


def check_losses(
    model: str,
    precision: Literal["fp32", "bf16"],
    parameters: int,
    config: EncodeConfig,
    probes: Sequence[Probe],
    ends: End,
    arms: Mapping[str, TrainConfig],
    seed: int,
) -> list[Check]:
    """Score as many of the samples as is quick, and judge the trained tokens' losses.

    Args:
        model: directory or hub id of the base model.
        precision: that it is scored in.
        parameters: that it has.
        config: how the samples were encoded.
        probes: usable rows.
        ends: tokens that end an answer.
        arms: settings by arm.
        seed: of the choice of samples.
    """
    limit = length_limit(config)
    usable = [probe for probe in probes if len(probe.trained)]
    usable = random.Random(seed).sample(usable, len(usable))
    lengths = [min(len(probe.input_ids), limit) for probe in usable]
    count = affordable(parameters, precision, lengths)
    if count < min(MIN_SCORED, len(usable)):
        measured = f"not measured: {parameters / 1e9:.1f} billion parameters are too many here"
        advice = "run it where the base model fits, to see whether NLIRG suits the corpus"
        return [Check(LOSS, "warn", measured, advice)]
    samples = [(probe.input_ids[:limit], probe.labels[:limit]) for probe in usable[:count]]
    if not samples:
        return []
    try:
        scored = Scorer(model, precision).score(samples, [probe.place for probe in usable])
    except InputError as error:
        return [Check(LOSS, "fail", str(error), "use a base model whose weights are whole")]
    weighting, users = _nlirg(arms)
    loss = np.concatenate([tokens.loss for tokens in scored])
    checks = [
        check_zones(loss, len(samples), weighting),
        check_suitability(loss, weighting, users),
    ]
    if config.task == "sft":
        tokens = np.concatenate([trained_tokens(labels) for _, labels in samples])
        checks.append(check_end_loss(loss, tokens, ends.turn, weighting, users))
    return checks


def affordable(parameters: int, precision: str, lengths: Sequence[int]) -> int:
    """Count the samples of these lengths in tokens that this machine scores within a minute."""
    if torch.accelerator.is_available():
        return len(lengths)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if parameters * (4 if precision == "fp32" else 2) > SHARE_OF_MEMORY * memory:
        return 0
    return int(np.searchsorted(np.cumsum(lengths), CPU_WORK / parameters, side="right"))


def _nlirg(arms: Mapping[str, TrainConfig]) -> tuple[NlirgWeighting, list[str]]:
    """Return the first arm's NLIRG breakpoints (the defaults if none), and the arms that use it."""
    users = {
        name: config.weighting
        for name, config in arms.items()
        if isinstance(config.weighting, NlirgWeighting)
    }
    return next(iter(users.values()), NlirgWeighting()), list(users)


def check_zones(loss: np.ndarray, samples: int, config: NlirgWeighting) -> Check:
    """Show where the trained tokens' losses lie under the base model.

    Args:
        loss: float [n] losses in nats.
        samples: how many samples they come from.
        config: NLIRG's breakpoints.
    """
    shares, weight = zone_shares(loss), _weights(loss, config).mean()
    told = ", ".join(f"{zone} {percent(shares[zone])}" for zone in ZONES)
    return Check(
        LOSS,
        "ok",
        f"{told}; mean {loss.mean():.2f} nats, mean NLIRG weight {weight:.2g} "
        f"({len(loss):,} tokens of {samples} samples)",
    )


def check_suitability(loss: np.ndarray, config: NlirgWeighting, users: Sequence[str]) -> Check:
    """Check whether NLIRG suits the corpus, judged by the base model's losses.

    Args:
        loss: float [n] losses of trained tokens, nats.
        config: NLIRG's breakpoints.
        users: arms of the recipe that train with NLIRG.
    """
    shares, weight = zone_shares(loss), float(_weights(loss, config).mean())
    hard = shares["high"] + shares["discarded"]
    unused = "" if users else " (no arm of this recipe uses it)"
    against = f"NLIRG does not suit this corpus{unused}: "
    if hard > HARD_SHARE:
        reason = f"{percent(hard)} of tokens are high or discarded, and it damps these: it would "
        reason += "learn slowly or not at all"
        advice = "does the model know the template and the language? If so, start with uniform"
    elif shares["low"] > EASY_SHARE:
        reason = f"{percent(shares['low'])} of tokens are low: the model knows them already, and "
        reason += "would train slowly on the rest"
        advice = "there is little to learn here; choose harder rows, or raise the learning rate"
    elif weight < LITTLE_WEIGHT:
        reason = f"its breakpoints give these losses a mean weight of {weight:.3f}"
        advice = "return to the default breakpoints, or fit them to the losses above"
    else:
        reason = f"{percent(shares['mid'])} of tokens lie in its working range, "
        reason += f"{percent(hard)} above it"
        return Check("NLIRG", "ok", f"NLIRG suits this corpus{unused}: {reason}")
    return Check("NLIRG", "warn", against + reason, advice)


def check_end_loss(
    loss: np.ndarray,
    tokens: np.ndarray,
    end_ids: Collection[int],
    config: NlirgWeighting,
    users: Sequence[str],
) -> Check:
    """Check whether NLIRG would teach the model to stop: the weight of the end tokens themselves.

    Args:
        loss: float [n] losses of trained tokens, nats.
        tokens: int [n] those tokens.
        end_ids: tokens that end an answer.
        config: NLIRG's breakpoints.
        users: arms of the recipe that train with NLIRG.
    """
    ends = loss[np.isin(tokens, list(end_ids))]
    if not len(ends):
        return Check("end token's loss", "warn", "no end token among the scored tokens", MAKE_ROOM)
    weights = _weights(ends, config)
    ignored = float((weights < END_WEIGHT).mean())
    measured = (
        f"median {np.median(ends):.2f} nats, mean NLIRG weight {weights.mean():.2g}; "
        f"{percent(ignored)} of {len(ends)} end tokens weigh < {END_WEIGHT}"
    )
    if ignored <= END_SHARE:
        return Check("end token's loss", "ok", measured)
    if not users:
        return Check("end token's loss", "ok", f"{measured} (no arm uses NLIRG)")
    return Check("end token's loss", "warn", measured, TEACH_END)


def _weights(loss: np.ndarray, config: NlirgWeighting) -> np.ndarray:
    return config.of_losses(torch.as_tensor(loss)).numpy()
