"""Loss zones, for monitoring: which tokens are learned, worth learning, hard or hopeless."""

from __future__ import annotations

import numpy as np

ZONES = ("low", "mid", "high", "discarded")  # easy to hopeless

# Upper bounds (nats) of the zones below which NLIRG damps, keeps and damps again.
LOW_ZONE, MID_ZONE, HIGH_ZONE = 1.45, 6.6, 15.0


def zone_of(loss: np.ndarray) -> np.ndarray:
    """Return the zone of each token, int64 indices into `ZONES` of the same shape.

    The zones are low (L <= 1.45), mid (< 6.6), high (< 15) and discarded (>= 15 or not finite);
    they stay the same whatever the weighting, so that runs can be compared.

    Args:
        loss: token losses in nats, any shape.
    """
    values = np.where(np.isfinite(loss), loss, np.inf)
    above = (values > LOW_ZONE, values >= MID_ZONE, values >= HIGH_ZONE)
    return np.asarray(np.sum(above, axis=0, dtype=np.int64))


def zone_shares(loss: np.ndarray) -> dict[str, float]:
    """Return the share of tokens per loss zone (see `zone_of`); all 0 if there is no token."""
    counts = np.bincount(zone_of(loss).ravel(), minlength=len(ZONES)).tolist()
    return {zone: count / max(np.size(loss), 1) for zone, count in zip(ZONES, counts, strict=True)}
