"""Loss zones, for monitoring: which tokens are learned, worth learning, hard or hopeless."""

from __future__ import annotations

import numpy as np

ZONES = ("low", "mid", "high", "discarded")  # easy to hopeless

# Upper bounds (nats) of the zones below which NLIRG damps, keeps and damps again.
LOW_ZONE, MID_ZONE, HIGH_ZONE = 1.45, 6.6, 15.0


def zone_shares(loss: np.ndarray) -> dict[str, float]:
    """Return the share of tokens per loss zone.

    The zones are low (L <= 1.45), mid (< 6.6), high (< 15) and discarded (>= 15 or not finite);
    they stay the same whatever the weighting, so that runs can be compared.

    Args:
        loss: token losses in nats, any shape.

    Returns:
        Shares in [0, 1] under the keys low, mid, high, discarded; all 0 if there is no token.
    """
    values = np.where(np.isfinite(loss), loss, np.inf)
    low, mid, high = (
        int(np.count_nonzero(inside))
        for inside in (values <= LOW_ZONE, values < MID_ZONE, values < HIGH_ZONE)
    )
    counts = {"low": low, "mid": mid - low, "high": high - mid, "discarded": values.size - high}
    return {zone: counts[zone] / max(values.size, 1) for zone in ZONES}
