"""The weight heatmap: which losses the token weights lie on, as training goes on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

CELL_HEIGHT = 8  # pixels per loss bin
MIN_WIDTH, MAX_WIDTH = 256, 1024  # pixels
# Dark to bright at equal distances: anchors of matplotlib's perceptually uniform viridis.
VIRIDIS = np.array([[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]])


def weight_heatmap(histograms: Sequence[Sequence[float]]) -> np.ndarray:
    """Draw each weight histogram as a column, bright where most of the weight is.

    Args:
        histograms: sums of weights per loss bin, one row for each log record in order, [n, bins];
            n >= 1. Neighbours are averaged where there are more than the image is wide.

    Returns:
        uint8 [height, width, 3]; steps run to the right, losses upwards. A column without any
        weight is dark.
    """
    mass = np.asarray(histograms, dtype=np.float64)
    columns = np.array_split(mass, min(len(mass), MAX_WIDTH))
    mass = np.stack([part.mean(axis=0) for part in columns], axis=1)
    peak = mass.max(axis=0, keepdims=True)
    brightness = np.divide(mass, peak, out=np.zeros_like(mass), where=peak > 0)[::-1]
    width = max(1, MIN_WIDTH // brightness.shape[1])
    cells = np.repeat(np.repeat(brightness, CELL_HEIGHT, axis=0), width, axis=1)
    anchors = np.linspace(0, 1, len(VIRIDIS))
    channels = [np.interp(cells, anchors, VIRIDIS[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)
