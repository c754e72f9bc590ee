"""Where loss and entropy of an answer part: the divergence analysis of one sample.

The model is surprised (high loss) where it was sure (low entropy): an overconfident error, in the
answer or in the model. Loss and entropy are smoothed over `WINDOW` tokens and standardized within
the sample; their difference is the divergence. The formulas are those of the reference
implementation (Y-Trainer), whose values the tests hold.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

WINDOW = 3  # tokens of the centred moving average
MIN_SCORE = 1.96  # divergence that a span must reach
MIN_STD = 1e-6  # below this a series is constant, and only centred
NOTABLE = 0.6  # |z| from which a smoothed loss or entropy is notable
VERY_SURE = -1.0  # z of an entropy that makes any loss above the mean notable

# What a token can be; a span is what most of its tokens are, of equally many the first here.
# suspicious_certainty: loss above the mean where the model was very sure. hard: surprised, and
# unsure. overconfident_error: surprised, and sure. lucky: right, and unsure.
PATTERNS = ("normal", "suspicious_certainty", "hard", "overconfident_error", "lucky")
NORMAL, SUSPICIOUS, HARD, OVERCONFIDENT, LUCKY = range(len(PATTERNS))


class Span(NamedTuple):
    """Consecutive tokens that are not normal.

    Attributes:
        start: first token, counted among the sample's trained tokens.
        end: one past the last.
        score: greatest divergence.
        mean_loss: nats per token.
        mean_entropy: nats per token.
        pattern: the commonest of its tokens' patterns.
    """

    start: int
    end: int
    score: float
    mean_loss: float
    mean_entropy: float
    pattern: str


class Divergence(NamedTuple):
    """The analysis of one sample of n trained tokens.

    Attributes:
        divergence: float64 [n], z of the smoothed loss less z of the smoothed entropy.
        patterns: [n] indices into `PATTERNS`.
        spans: those that reach `MIN_SCORE`, the highest score first.
        anomaly_score: sum of |divergence| of the tokens that are not normal, over n.
    """

    divergence: np.ndarray
    patterns: np.ndarray
    spans: list[Span]
    anomaly_score: float


def analyse(loss: np.ndarray, entropy: np.ndarray) -> Divergence:
    """Find the tokens of a sample where loss and entropy part.

    Where a series is constant its z are 0, as those of a single token are; nothing is ever NaN.

    Args:
        loss: [n] loss of each token, nats, finite; n >= 1.
        entropy: [n] entropy of the distributions the losses were taken from, nats.
    """
    loss, entropy = np.asarray(loss, np.float64), np.asarray(entropy, np.float64)
    smooth = _smoothed(np.stack([loss, entropy]))
    z_loss, z_entropy = _standardized(smooth)
    divergence = z_loss - z_entropy
    patterns = _patterns(z_loss, z_entropy, loss > smooth[0].mean())
    strange = patterns != NORMAL
    return Divergence(
        divergence,
        patterns,
        _spans(loss, entropy, divergence, patterns),
        float(np.abs(divergence[strange]).sum() / len(loss)),
    )


def _smoothed(series: np.ndarray) -> np.ndarray:
    """Centred moving averages of series [2, n]; at the ends, of the tokens there are."""
    length, half = series.shape[1], WINDOW // 2
    padded = np.pad(series, ((0, 0), (half, half)))
    total = sum(padded[:, offset : offset + length] for offset in range(WINDOW))
    places = np.arange(length)
    counts = np.minimum(places, half) + np.minimum(places[::-1], half) + 1
    return np.asarray(total / counts)


def _standardized(series: np.ndarray) -> np.ndarray:
    """Series [2, n] as z, by the sample's standard deviation (n - 1); constant ones centred."""
    centred = series - series.mean(axis=1, keepdims=True)
    freedom = max(1, series.shape[1] - 1)
    deviation = np.sqrt((centred**2).sum(axis=1, keepdims=True) / freedom)
    return centred / np.where(deviation > MIN_STD, deviation, 1.0)


def _patterns(z_loss: np.ndarray, z_entropy: np.ndarray, above: np.ndarray) -> np.ndarray:
    """Pattern [n] of each token; `above` says whether its own loss is above the mean."""
    high, sure, unsure = z_loss > NOTABLE, z_entropy < -NOTABLE, z_entropy > NOTABLE
    patterns = np.where(above & (z_entropy < VERY_SURE), SUSPICIOUS, NORMAL)
    patterns[(z_loss < -NOTABLE) & unsure] = LUCKY
    patterns[high & unsure] = HARD
    patterns[high & sure] = OVERCONFIDENT
    return patterns


def _spans(
    loss: np.ndarray, entropy: np.ndarray, divergence: np.ndarray, patterns: np.ndarray
) -> list[Span]:
    """Runs of tokens that are not normal, of which one diverges by `MIN_SCORE`."""
    strange = patterns != NORMAL
    if not (strange & (divergence >= MIN_SCORE)).any():
        return []
    borders = np.flatnonzero(np.diff(strange, prepend=False, append=False))
    spans = []
    for start, end in borders.reshape(-1, 2).tolist():
        run = slice(start, end)
        score = float(divergence[run].max())
        if score >= MIN_SCORE:
            commonest = PATTERNS[int(np.bincount(patterns[run]).argmax())]
            means = float(loss[run].mean()), float(entropy[run].mean())
            spans.append(Span(start, end, score, *means, commonest))
    return sorted(spans, key=lambda span: -span.score)
