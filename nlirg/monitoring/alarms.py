"""Alarms: what a training run's own metrics say is wrong, in words that say what to do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from scipy import stats

from nlirg.config.training import GuardConfig
from nlirg.monitoring.alarm import Alarm

START_STEPS, START_TOKENS = 20, 500  # the start of a run is over after either
MOST = 0.5
RARE_END = 0.5  # of samples that end in an end token
MIN_COSINE = 0.8
MAX_SKIPPED = 0.2

# A rise is looked for in the later half of the run, cut into blocks whose means are compared.
RISE_BLOCKS, RISE_MIN_RECORDS, RISE_EVERY = 20, 60, 20
RISE_Z, RISE_NATS, RISE_SHARE = 3.7, 0.1, 0.05  # z: one-sided p of 1e-4

# A stair is a jump between the lines through half an epoch on either side of a border.
STAIR_SIDE, STAIR_GAP, STAIR_BLOCKS, STAIR_MIN_RECORDS = 0.5, 0.05, 16, 6
STAIR_NATS, STAIR_SHARE, STAIR_ERRORS = 0.1, 0.1, 4.0


class Alarms:
    """Watches the log records of one run, on the first rank.

    Its state follows from the records alone, so a resumed run replays those it has.

    Args:
        end_of_turn_share: share of the samples whose last trained token ends the turn; None
            where there are no turns (continued pre-training).
        guard: the bound on what the run may forget; None without one.
    """

    def __init__(self, end_of_turn_share: float | None, guard: GuardConfig | None = None) -> None:
        self._end_of_turn_share, self._guard = end_of_turn_share, guard
        self._raised: set[str] = set()
        self._start = StartTotals()
        self._loss: list[float] = []
        self._epoch: list[float] = []
        self._border = 1

    def replay(self, records: Iterable[dict[str, Any]]) -> None:
        """Take in the records of an earlier part of the run; what they raised stays raised."""
        for record in records:
            self.check(record)

    def check(self, record: dict[str, Any]) -> list[Alarm]:
        """Take in one record and say what is newly wrong; keys it lacks are not judged."""
        if record.get("loss") is not None:
            self._loss.append(record["loss"])
            self._epoch.append(record.get("epoch", 0.0))
        messages = {
            "untrained_end": self._untrained_end(),
            "hard_start": self._start.message(record),
            "rising_loss": self._rising_loss(record),
            "stairs": self._stairs(record),
            "gradient_cosine": _low_cosine(record),
            "skipped_steps": _skipping(record),
            "forgetting": self._forgetting(record),
        }
        new = {kind: text for kind, text in messages.items() if text and kind not in self._raised}
        self._raised |= new.keys()
        return [Alarm(kind, record["step"], text) for kind, text in new.items()]

    def _untrained_end(self) -> str | None:
        share = self._end_of_turn_share
        if share is None or share >= RARE_END:
            return None
        return (
            f"only {share:.0%} of the samples end in a trained end-of-turn token: the model will "
            "not learn to stop; check that the chat template writes the end token after an "
            "answer, and raise encode.max_length if answers are cut off"
        )

    def _forgetting(self, record: dict[str, Any]) -> str | None:
        guard = self._guard
        if guard is None or "general_rise" not in record:
            return None
        rise = record["general_rise"]  # None where it was not finite
        if rise is not None and rise <= guard.max_rise:
            return None
        what = "loss on general text" if guard.metric == "loss" else "KL from the base model"
        told = "is no number any more" if rise is None else f"has risen by {rise:.3f} nats a token"
        ends = "the run ends here" if guard.stop else "the run goes on"
        return (
            f"the model is forgetting: {what} {told}, and train.guard allows {guard.max_rise:g}; "
            f"{ends}. Lower train.learning_rate, train fewer epochs, add train.replay, or choose a "
            "weaker adapter afterwards (evaluate.scales)"
        )

    def _rising_loss(self, record: dict[str, Any]) -> str | None:
        seen = len(self._loss)
        if "loss" not in record or seen < RISE_MIN_RECORDS or seen % RISE_EVERY:
            return None
        rise = steady_rise(np.array(self._loss[-max(RISE_MIN_RECORDS, seen // 2) :]))
        if rise is None:
            return None
        return (
            f"the loss has risen steadily, by {rise:.2f} nats over the later half of the run: "
            "hard data does not do that, a wrong setting or a bug does; lower "
            "train.learning_rate, and check labels and precision (an order from easy to hard "
            "rises by design)"
        )

    def _stairs(self, record: dict[str, Any]) -> str | None:
        if record.get("epoch", 0.0) < self._border + STAIR_SIDE + STAIR_GAP:
            return None
        border, self._border = self._border, self._border + 1
        drop = stair(np.array(self._epoch), np.array(self._loss), border)
        if drop is None:
            return None
        return (
            f"the loss fell by {drop:.2f} nats at the start of epoch {border + 1} and hardly "
            "within epochs: the model is memorising its samples; use fewer epochs, more data or "
            "a lower train.learning_rate, and watch a validation loss"
        )


class StartTotals:
    """Counts how many of a run's first tokens lie in the high and discarded zones."""

    def __init__(self) -> None:
        self._tokens = 0
        self._hard = 0.0
        self._judged = False

    def message(self, record: dict[str, Any]) -> str | None:
        """Take in a record; the alarm's text at the end of the start, if most were hard."""
        if self._judged or record.get("high") is None:
            return None
        tokens = record["trained_tokens"] - self._tokens
        self._hard += tokens * (record["high"] + record["discarded"])
        self._tokens = record["trained_tokens"]
        if record["step"] < START_STEPS and self._tokens < START_TOKENS:
            return None
        self._judged = True
        share = self._hard / self._tokens if self._tokens else 0.0
        if share <= MOST:
            return None
        return (
            f"{share:.0%} of the first {self._tokens} trained tokens have a high or discarded "
            "loss: check that the chat template and the corpus' language are the model's (nlirg "
            "doctor shows where). NLIRG gives such tokens next to no weight and would not learn "
            "them; ordinary SFT (weighting: uniform) comes first then"
        )


def _low_cosine(record: dict[str, Any]) -> str | None:
    cosine = record.get("gradient_cosine")
    if cosine is None or cosine >= MIN_COSINE:
        return None
    return (
        f"the short gradient_context's gradient has cosine {cosine:.2f} with the full one, below "
        f"{MIN_COSINE}: raise train.gradient_context, or set it to full"
    )


def _skipping(record: dict[str, Any]) -> str | None:
    skipped, step = record.get("skipped_steps", 0), record["step"]
    if step < START_STEPS or skipped <= MAX_SKIPPED * step:
        return None
    return (
        f"{skipped} of {step} steps changed nothing: every token was discarded or the gradient "
        "was not finite; lower train.learning_rate, use bf16 instead of fp16, or check the "
        "corpus for text that the model cannot predict at all"
    )


def steady_rise(loss: np.ndarray) -> float | None:
    """Measure how far a loss curve rises, if it does so steadily.

    The curve is cut into blocks. Their means must rise by the Mann-Kendall test (Mann 1945,
    Kendall 1975: signs only, so outliers do not matter), corrected for autocorrelation, and by a
    Theil-Sen slope that matters.

    Args:
        loss: mean losses in order, nats, [n] with n >= 20.

    Returns:
        The rise over the whole stretch in nats; None if it is not steady or too small.
    """
    blocks, time = _block_means(loss, RISE_BLOCKS), np.arange(RISE_BLOCKS)
    signs = np.sign(blocks[:, None] - blocks)[np.tril_indices(RISE_BLOCKS, -1)].sum()
    n = RISE_BLOCKS
    z = float(signs) / (n * (n - 1) * (2 * n + 5) / 18) ** 0.5
    if z < RISE_Z:
        return None
    slope = float(stats.theilslopes(blocks, time).slope)
    rise = slope * (n - 1)
    small = rise <= max(RISE_NATS, RISE_SHARE * float(blocks[0]))
    return None if small or z < RISE_Z * _variance_inflation(blocks - slope * time) ** 0.5 else rise


def stair(epoch: np.ndarray, loss: np.ndarray, border: int) -> float | None:
    """Measure how far a loss curve falls at an epoch's border, if that is a stair.

    A regression discontinuity: Theil-Sen lines through half an epoch on either side, compared at
    the border. A stair is deeper than the noise of that comparison, and than the fall within
    the half epoch before it. The records next to the border are left out, since slots pass it at
    different steps.

    Args:
        epoch: passes over the corpus so far, fractional, [n].
        loss: mean losses in nats, [n].
        border: the epoch's number, counted from 1 for the end of the first.

    Returns:
        The drop in nats; None if there is no stair or too few records to say.
    """
    distance = epoch - border
    near = (np.abs(distance) >= STAIR_GAP) & (np.abs(distance) <= STAIR_SIDE + STAIR_GAP)
    sides = [near & (distance < 0), near & (distance > 0)]
    if min(side.sum() for side in sides) < STAIR_MIN_RECORDS:
        return None
    (before, slope, error_before), (after, _, error_after) = (
        _value_at_border(distance[side], loss[side]) for side in sides
    )
    drop = before - after
    within = max(0.0, -slope) * STAIR_SIDE
    noise = STAIR_ERRORS * (error_before + error_after) ** 0.5
    return drop if drop > max(STAIR_NATS, STAIR_SHARE * before, within, noise) else None


def _value_at_border(distance: np.ndarray, loss: np.ndarray) -> tuple[float, float, float]:
    """Return a Theil-Sen line's value at distance 0, its slope, and the variance of that value."""
    distance, loss = _block_means(distance, STAIR_BLOCKS), _block_means(loss, STAIR_BLOCKS)
    line = stats.theilslopes(loss, distance)
    rest = loss - line.intercept - line.slope * distance
    spread = float(rest @ rest) / (len(rest) - 2)
    # The end of a least-squares line through n points has variance 4 s^2 / n.
    variance = 4 * spread / len(rest) * _variance_inflation(rest)
    return float(line.intercept), float(line.slope), variance


def _block_means(values: np.ndarray, blocks: int) -> np.ndarray:
    """Average consecutive blocks of nearly equal length; keep the values if they are fewer."""
    return np.array([part.mean() for part in np.array_split(values, min(blocks, len(values)))])


def _variance_inflation(values: np.ndarray) -> float:
    """Estimate how much more a mean of these values varies than if they were independent.

    (1 + r) / (1 - r) for lag-1 autocorrelation r, as of a first-order autoregression.
    """
    centered = values - values.mean()
    power = float(centered @ centered)
    # Below that it is rounding, whose correlation means nothing.
    r = float(centered[1:] @ centered[:-1]) / power if power > 1e-12 else 0.0
    r = min(max(r, 0.0), 0.9)
    return (1 + r) / (1 - r)
