"""Scores of one sample from its tokens' losses and entropies."""

from __future__ import annotations

import numpy as np

from nlirg.weights import zone_shares

# Lower bounds of the bands of `similarity`; below the last one a sample is suspect.
BANDS = (("high", 0.8), ("good", 0.5), ("fair", 0.3))

# exp() beyond this is not finite in float64.
MAX_LOG = float(np.log(np.finfo(np.float64).max))


def sample_scores(loss: np.ndarray, entropy: np.ndarray) -> dict[str, float | str]:
    """Score one sample.

    The model expects to be wrong where its entropy H is high. Where the loss L follows H, the
    answer is as hard as the model thinks it is; where it does not, the answer says something the
    model is sure is not so: new knowledge, or an error.

    Args:
        loss: [n] loss of each answer token, nats, finite.
        entropy: [n] entropy of the distributions the losses were taken from, nats.

    Returns:
        mean_loss, max_loss, mean_entropy (nats); perplexity = exp(mean_loss); zone_low,
        zone_mid, zone_high, zone_discarded (shares of tokens, see `nlirg.weights.zone_shares`);
        similarity = L.H / (|L| |H|) in [0, 1] with its band: high > 0.8, good > 0.5, fair
        > 0.3, suspect; similarity_centered = Pearson's correlation of L and H in [-1, 1], the
        negative of the reference implementation's `similarity_rank`. All are finite: similarity
        is 0 if L or H is zero throughout, similarity_centered is 0 if either is constant, as
        those of a single token are.

    Raises:
        ValueError: if there is no token, or the lengths differ.
    """
    loss, entropy = np.asarray(loss, np.float64), np.asarray(entropy, np.float64)
    if not len(loss) or loss.shape != entropy.shape:
        shapes = f"{loss.shape} and {entropy.shape}"
        raise ValueError(f"need one loss and one entropy per token, not {shapes}")
    mean_loss = float(loss.mean())
    similarity = cosine(loss, entropy)
    return {
        "mean_loss": mean_loss,
        "max_loss": float(loss.max()),
        "perplexity": float(np.exp(min(mean_loss, MAX_LOG))),
        "mean_entropy": float(entropy.mean()),
        **{f"zone_{zone}": share for zone, share in zone_shares(loss).items()},
        "similarity": similarity,
        "band": band(similarity),
        "similarity_centered": pearson(loss, entropy),
    }


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
