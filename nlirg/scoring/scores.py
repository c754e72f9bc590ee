"""Scores of one sample from its tokens' losses and entropies."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from nlirg.scoring.divergence import analyse
from nlirg.weighting.zones import zone_shares

# Lower bounds of the bands of `similarity`; below the last one a sample is suspect.
BANDS = (("high", 0.8), ("good", 0.5), ("fair", 0.3))

# exp() beyond this is not finite in float64.
MAX_LOG = float(np.log(np.finfo(np.float64).max))


# A token that the model cannot be expected to predict counts for filtered rank from this loss on,
# wholly where the model was sure (entropy at most this), half where it was not. Nats.
HARD_LOSS, SURE_ENTROPY = 3.0, 1.0

MIN_K_SHARE = 0.2  # of the tokens that Min-K%++ averages
# Least standard deviation of ln p, nats: below it the model is certain, and what is left of
# (ln p + H) is rounding, or a token it gives no chance.
MIN_LOG_P_STD = 1e-3

END_WEIGHT = 0.5  # of the last token's loss in `anomaly`; anything from 0.2 to 1 does as well

# Least mean loss in a ratio of two, nats: below it an answer is known by heart.
MIN_MEAN_LOSS = 1e-6


class TokenScores(NamedTuple):
    """What a model makes of a sample's n trained tokens; float32 [n] each, in nats.

    Attributes:
        loss: L = -ln p of the token.
        entropy: H = -sum p ln p of the distribution that the loss was taken from.
        log_p_std: standard deviation of ln p under that distribution.
    """

    loss: np.ndarray
    entropy: np.ndarray
    log_p_std: np.ndarray


def sample_scores(tokens: TokenScores) -> dict[str, Any]:
    """Score one sample.

    The model expects to be wrong where its entropy H is high. Where the loss L follows H, the
    answer is as hard as the model thinks it is; where it does not, the answer says something the
    model is sure is not so: new knowledge, or an error.

    Args:
        tokens: of the sample, finite.

    Returns:
        mean_loss, max_loss, mean_entropy (nats); perplexity = exp(mean_loss); zone_low,
        zone_mid, zone_high, zone_discarded (shares of tokens, `nlirg.weighting.zones.zone_shares`);
        similarity = L.H / (|L| |H|) in [0, 1] with its band: high > 0.8, good > 0.5, fair
        > 0.3, suspect; similarity_centered = Pearson's correlation of L and H in [-1, 1], the
        negative of the reference implementation's `similarity_rank`; filtered_rank, divergence
        (the anomaly score of `nlirg.scoring.divergence.analyse`), n_spans and spans (a list of
        `nlirg.scoring.divergence.Span`, in tokens), min_k, anomaly. All are finite: similarity is 0
        if L or H is zero throughout, similarity_centered is 0 if either is constant, as those of a
        single token are.

    Raises:
        ValueError: if there is no token, or the lengths differ.
    """
    loss, entropy, spread = (np.asarray(values, np.float64) for values in tokens)
    if not len(loss) or not loss.shape == entropy.shape == spread.shape:
        shapes = f"{loss.shape}, {entropy.shape} and {spread.shape}"
        raise ValueError(f"need one loss, entropy and deviation per token, not {shapes}")
    mean_loss = float(loss.mean())
    similarity = cosine(loss, entropy)
    found = analyse(loss, entropy)
    return {
        "mean_loss": mean_loss,
        "max_loss": float(loss.max()),
        "perplexity": float(np.exp(min(mean_loss, MAX_LOG))),
        "mean_entropy": float(entropy.mean()),
        **{f"zone_{zone}": share for zone, share in zone_shares(loss).items()},
        "similarity": similarity,
        "band": band(similarity),
        "similarity_centered": pearson(loss, entropy),
        "filtered_rank": filtered_rank(loss, entropy),
        "divergence": found.anomaly_score,
        "n_spans": len(found.spans),
        "spans": found.spans,
        "min_k": min_k(loss, entropy, spread),
        "anomaly": anomaly(loss),
    }


def anomaly(loss: np.ndarray) -> float:
    """How suspicious a sample is: mean loss, and half the loss of its last token, in nats.

    The last token ends the answer; where an answer breaks off, it alone is unexpected. Of the
    scores in `tests/bench/corpus/DETECTORS.md` this one had the highest average precision on errors
    put into clean rows of the demo world: .80, the mean loss .74, the divergence .49, random .10;
    on other rows of it .79, .73, .50 and .10. On text in a language that the model does not know
    it was worth no more than random.

    Args:
        loss: [n] nats; n >= 1.
    """
    return float(loss.mean() + END_WEIGHT * loss[-1])


def filtered_rank(loss: np.ndarray, entropy: np.ndarray) -> float:
    """Number of tokens [n] with a loss above 3 nats; where the entropy is above 1, half of it.

    That is `filtered_rank` of the reference implementation.
    """
    hard = loss > HARD_LOSS
    sure = entropy <= SURE_ENTROPY
    return float(np.count_nonzero(hard) + np.count_nonzero(hard & sure)) / 2


def min_k(loss: np.ndarray, entropy: np.ndarray, log_p_std: np.ndarray) -> float:
    """Min-K%++ (arXiv 2404.02936): mean of the lowest 20 % of z = (ln p + H) / sigma.

    ln p = -L is a token's log-probability, -H its mean and sigma its standard deviation under the
    model's own distribution. Low values: the model would hardly ever say so.

    Args:
        loss: [n] L, nats.
        entropy: [n] H, nats.
        log_p_std: [n] sigma, nats; at least 0.001 is taken.
    """
    z = (entropy - loss) / np.maximum(log_p_std, MIN_LOG_P_STD)
    count = max(1, int(MIN_K_SHARE * len(z)))
    return float(np.partition(z, count - 1)[:count].mean())


def instruction_difficulty(loss: np.ndarray, loss_alone: np.ndarray) -> float:
    """Instruction-following difficulty (arXiv 2308.12032): how little the prompt helps.

    The answer's mean loss given the prompt, over its mean loss without it (of
    `nlirg.scoring.scorer.without_context`). Near 1 or above the prompt does not help; of an answer
    that the model knows by heart in either case it is 1.

    Args:
        loss: [n] given the prompt, nats; n >= 1.
        loss_alone: [n] of the same tokens without it.
    """
    given, alone = (max(float(np.mean(v)), MIN_MEAN_LOSS) for v in (loss, loss_alone))
    return given / alone


def excess_loss(loss: np.ndarray, reference_loss: np.ndarray) -> float:
    """Mean of L - L_ref (arXiv 2404.07965), nats: what a better model shows can be learned.

    Args:
        loss: [n] of the model, nats; n >= 1.
        reference_loss: [n] of the reference model, of the same tokens.
    """
    return float(np.mean(loss) - np.mean(reference_loss))


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Cosine of the angle between two vectors [n]; 0 if either is zero."""
    # Scaling by the largest entry first keeps squares from underflowing.
    a, b = (v / (np.abs(v).max() or 1.0) for v in (a, b))
    norms = np.linalg.norm(a) * np.linalg.norm(b)
    return float(np.clip(a @ b / norms, -1, 1)) if norms else 0.0


def pearson(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's correlation of two vectors [n]; 0 if either is constant."""
    # The mean of equal floats may differ from them in the last bit: ask the values themselves.
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return cosine(a - a.mean(), b - b.mean())


def band(similarity: float) -> str:
    """Name of the band a similarity lies in."""
    return next((name for name, bound in BANDS if similarity > bound), "suspect")
